//go:build linux

package deploy

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter/otlpexporter"
	"go.yaml.in/yaml/v3"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// decisionWait is the sampling tier's in the tests: much longer than the 5 s
// after which a payment's root comes, for a busy machine may delay the root.
const decisionWait = 20 * time.Second

// otelcol is a Collector that runs.
type otelcol struct {
	address string // where it listens
	// stop ends it, once it has made its decisions and sent what they keep.
	stop func()
}

// startCollector starts a Collector with a configuration of the fleet. It ends
// with the test, if not before.
func startCollector(t *testing.T, program, config string, env ...string) otelcol {
	t.Helper()
	address := strings.TrimPrefix(otlptest.Reserve(t).GRPCEndpoint(), "http://")
	cmd := exec.Command(program, "--config=file:"+config)
	cmd.Env = append(os.Environ(), "LISTEN="+address, "METRICS_LEVEL=none", "DECISION_WAIT="+decisionWait.String())
	cmd.Env = append(cmd.Env, env...)
	log, err := os.Create(filepath.Join(lightningdtest.Dir(t), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Errorf("%s: %v: %s", config, err, text)
		}
		log.Close()
	})
	t.Cleanup(stop)
	wait.For(t, config+" to listen", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return otelcol{address, stop}
}

// payment is a recorded payment as the n-th of a node: other ids, and what
// change makes of its spans.
func payment(t *testing.T, n int, change func(*recording.Span)) (datagrams []recording.Datagram) {
	t.Helper()
	recorded, err := recording.Load(recording.Xpay)
	if err != nil {
		t.Fatal(err)
	}
	const root = "cln:xpay#330"
	shift := time.Since(recorded[len(recorded)-1].SentAt)
	for i, d := range recorded {
		s, err := d.Span()
		if err != nil || !strings.Contains(s.Tags["id"], root) {
			continue
		}
		s.Tags["id"] = strings.Replace(s.Tags["id"], root, fmt.Sprintf("cln:xpay#%d", 1000+n), 1)
		s.ID, s.TraceID = fmt.Sprintf("%08x%08x", n+1, i+1), fmt.Sprintf("%016x%08x%08x", 0xc1, n+1, i+1)
		s.Start = s.Start.Add(shift)
		if change != nil {
			change(&s)
		}
		d.Payload = recording.New(s)
		datagrams = append(datagrams, d)
	}
	return datagrams
}

// Payments of the test, by their number; so many others succeed in 131 ms.
const (
	failing  = 7
	slow     = 11
	last     = 59 // fails, too: when it has come all have been decided about
	payments = last + 1
)

// pay sends all payments through a clntrace beside the node to an endpoint.
func pay(t *testing.T, endpoint string) (spansEach int) {
	t.Helper()
	dir := lightningdtest.Dir(t)
	socket := filepath.Join(dir, "trace.sock")
	cmd := exec.Command(clntrace, "collect", "--socket="+socket, "--spool-dir="+filepath.Join(dir, "spool"), "--otlp-endpoint=http://"+endpoint)
	var log bytes.Buffer
	cmd.Stderr, cmd.Dir = &log, dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, log.String())
		}
	})
	wait.For(t, "the socket", func() bool { _, err := os.Stat(socket); return err == nil })
	senders := lightningdtest.SendersTo(t, sender, socket)
	for n := range payments {
		datagrams := payment(t, n, func(s *recording.Span) {
			if !strings.Contains(s.Tags["id"], "injectpaymentonion") {
				return
			}
			switch n {
			case failing, last:
				s.Tags["error"] = "true"
			case slow:
				s.Duration += 6 * time.Second
			}
		})
		senders.Replay(datagrams)
		spansEach = len(datagrams) + 1 // and the root
	}
	return spansEach
}

// checkKept waits until the failing and the slow payments have come, ends the
// sampling Collectors, and expects that each payment came whole or not at all,
// and few of those that are not special.
func checkKept(t *testing.T, r *otlptest.Receiver, spansEach int, tier ...otelcol) {
	t.Helper()
	r.Wait(t, "the failing and the slow payments", func(spans []otlptest.Span) bool {
		failed, lasted := 0, 0
		for _, s := range spans {
			if s.Name == "xpay" && s.Status == "Error" {
				failed++
			}
			if s.Name == "xpay" && s.Duration > 5*time.Second {
				lasted++
			}
		}
		return failed == 2 && lasted == 1
	})
	for _, c := range tier {
		c.stop()
	}
	kept := map[string]int{}
	for _, s := range r.Spans() {
		kept[s.TraceID]++
	}
	t.Logf("%d of %d payments came, of %d spans each", len(kept), payments, spansEach)
	for trace, n := range kept {
		if n != spansEach {
			t.Errorf("of trace %s came %d spans of %d", trace, n, spansEach)
		}
	}
	if len(kept) > payments/2 {
		t.Errorf("%d of %d payments were kept, with 10 %% of those that are not special", len(kept), payments)
	}
}

// One sampling Collector with its shipped configuration, fed by clntrace.
func TestFleetSampling(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	c := startCollector(t, collector, "fleet/sampling.yaml", "BACKEND="+strings.TrimPrefix(r.GRPCEndpoint(), "http://"))
	checkKept(t, r, pay(t, c.address), c)
}

// Both tiers. The load-balancing exporter is in contrib Collectors only.
func TestFleet(t *testing.T) {
	t.Parallel()
	contrib := os.Getenv("OTELCOL_CONTRIB")
	if contrib == "" {
		t.Skip("set OTELCOL_CONTRIB to an OpenTelemetry Collector (contrib)")
	}
	r := otlptest.Start(t)
	backend := "BACKEND=" + strings.TrimPrefix(r.GRPCEndpoint(), "http://")
	var tier []otelcol
	for range 2 {
		tier = append(tier, startCollector(t, contrib, "fleet/sampling.yaml", backend))
	}
	gateway := startCollector(t, contrib, "fleet/gateway.yaml", fmt.Sprintf("SAMPLING=[%s, %s]", tier[0].address, tier[1].address))
	checkKept(t, r, pay(t, gateway.address), tier...)
}

// What of the gateway can be checked without the load-balancing exporter: the
// settings that it hands to an OTLP exporter are ones, and each part that the
// pipeline names is there.
func TestFleetGateway(t *testing.T) {
	text, err := os.ReadFile("fleet/gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		t.Fatal(err)
	}
	conf := confmap.NewFromStringMap(raw)
	otlp, err := conf.Sub("exporters::loadbalancing::protocol::otlp")
	if err != nil {
		t.Fatal(err)
	}
	cfg := otlpexporter.NewFactory().CreateDefaultConfig().(*otlpexporter.Config)
	if err := otlp.Unmarshal(cfg); err != nil {
		t.Error(err)
	}
	if got := conf.Get("exporters::loadbalancing::routing_key"); got != "traceID" {
		t.Errorf("routing_key is %v", got)
	}
	for _, kind := range []string{"receivers", "processors", "exporters"} {
		declared, err := conf.Sub(kind)
		if err != nil {
			t.Fatal(err)
		}
		names := slices.Sorted(maps.Keys(declared.ToStringMap()))
		for _, used := range conf.Get("service::pipelines::traces::" + kind).([]any) {
			if !slices.Contains(names, used.(string)) {
				t.Errorf("the pipeline uses %v, %s are %v", used, kind, names)
			}
		}
	}
}
