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

// maxResources bounds the resources remembered, as package process bounds the
// processes.
const maxResources = 1024

// resources makes one OTLP resource for each process and remembers them. It is
// for one goroutine.
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

// ResourceOf returns the OTLP resource of one process.
func ResourceOf(cfg Config, node Node, p *process.Identity) *resource.Resource {
	return newResources(cfg, node).of(p)
}

// attributes lists those of a process. The operator's own come after the
// node's and so replace them; they cannot make all processes one.
func (r *resources) attributes(p *process.Identity) []attribute.KeyValue {
	var list []attribute.KeyValue
	add := func(key attribute.Key, value string) {
		if value != "" {
			// One string that is not UTF-8 would fail a whole batch.
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
