package export

import (
	"maps"
	"os"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"clntrace/collector/process"
)

// maxResources bounds the cache, as package process bounds that of identities.
const maxResources = 1024

// resources makes and caches an OTLP resource for each process. It is not safe for
// concurrent use.
type resources struct {
	cfg       Config
	node      Node
	host      string
	byProcess map[*process.Identity]*resource.Resource
}

func newResources(cfg Config, node Node) *resources {
	host, _ := os.Hostname() // without a name the attribute is left out
	return &resources{cfg: cfg, node: node, host: host, byProcess: make(map[*process.Identity]*resource.Resource)}
}

func (r *resources) of(p *process.Identity) *resource.Resource {
	if res := r.byProcess[p]; res != nil {
		return res
	}
	if len(r.byProcess) >= maxResources {
		clear(r.byProcess)
	}
	res := resource.NewWithAttributes(semconv.SchemaURL, r.attributes(p)...)
	r.byProcess[p] = res
	return res
}

// resourceSize estimates how many bytes a resource takes in a request.
func resourceSize(r *resource.Resource) (n int) {
	const fixed = 20 // around each attribute
	for i := r.Iter(); i.Next(); {
		a := i.Attribute()
		n += fixed + len(a.Key) + len(a.Value.String())
	}
	return n
}

// ResourceOf returns the OTLP resource of one process.
func ResourceOf(cfg Config, node Node, p *process.Identity) *resource.Resource {
	return newResources(cfg, node).of(p)
}

// attributes lists the attributes of a process's resource. Those of the operator
// come after the node's and so replace them, but cannot replace what tells
// processes apart.
func (r *resources) attributes(p *process.Identity) []attribute.KeyValue {
	var list []attribute.KeyValue
	add := func(key attribute.Key, value string) {
		if value != "" {
			// A single string that is not UTF-8 would make a whole batch fail.
			list = append(list, key.String(strings.ToValidUTF8(value, "\ufffd")))
		}
	}
	add(semconv.HostNameKey, r.host)
	add(semconv.ServiceVersionKey, r.node.Version)
	add(semconv.ServiceInstanceIDKey, r.node.ID)
	add(keyNodeID, r.node.ID)
	add(keyNodeAlias, r.node.Alias)
	add(keyNetwork, r.node.Network)
	for _, key := range slices.Sorted(maps.Keys(r.cfg.ResourceAttributes)) {
		if key != string(semconv.ServiceNameKey) && !strings.HasPrefix(key, "process.") {
			add(attribute.Key(key), r.cfg.ResourceAttributes[key])
		}
	}
	add(semconv.ServiceNamespaceKey, r.cfg.ServiceNamespace)
	if r.cfg.ServiceName != "" {
		add(semconv.ServiceNameKey, r.cfg.ServiceName)
	} else {
		add(semconv.ServiceNameKey, p.Name)
	}
	if p.PID > 0 {
		list = append(list, semconv.ProcessPID(int(p.PID)))
	}
	if p.Known {
		add(semconv.ProcessExecutableNameKey, p.Name)
	}
	return list
}
