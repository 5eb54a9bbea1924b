//go:build linux

package deploy

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/wait"
)

// tempoConfig is that of a Tempo in one process. NAME is an address, NAME_HOST and
// NAME_PORT its parts. By default its parts keep files in one place of the machine.
const tempoConfig = `
server: {http_listen_address: QUERY_HOST, http_listen_port: QUERY_PORT, grpc_listen_address: GRPC_HOST, grpc_listen_port: GRPC_PORT}
memberlist: {bind_addr: ["GOSSIP_HOST"], bind_port: GOSSIP_PORT}
distributor: {receivers: {otlp: {protocols: {grpc: {endpoint: "OTLP"}}}}}
live_store: {wal: {path: "DIR/live"}, shutdown_marker_dir: "DIR/marker"}
block_builder: {wal: {path: "DIR/builder"}}
backend_scheduler: {local_work_path: "DIR/scheduler"}
storage: {trace: {backend: local, wal: {path: "DIR/wal"}, local: {path: "DIR/blocks"}}}
usage_report: {reporting_enabled: false}`

// tempo is a Grafana Tempo that runs.
type tempo struct {
	otlp, query string // its addresses
	cmd         *exec.Cmd
	client      ptraceotlp.GRPCClient
}

// startTempo starts the Tempo that TEMPO names, if any.
func startTempo(t testing.TB) *tempo {
	t.Helper()
	program := os.Getenv("TEMPO")
	if program == "" {
		t.Log("without Tempo, which TEMPO would name: what is kept is read where the sampling Collectors send it")
		return nil
	}
	dir, p := lightningdtest.Dir(t), &tempo{}
	values := []string{"DIR", dir}
	for name, address := range map[string]*string{"QUERY": &p.query, "OTLP": &p.otlp, "GRPC": new(string), "GOSSIP": new(string)} {
		*address = otlptest.FreeAddress(t)
		host, port, _ := net.SplitHostPort(*address)
		values = append(values, name+"_HOST", host, name+"_PORT", port, name, *address)
	}
	config := filepath.Join(dir, "tempo.yaml")
	if err := os.WriteFile(config, []byte(strings.NewReplacer(values...).Replace(tempoConfig)), 0o600); err != nil {
		t.Fatal(err)
	}
	var log lightningdtest.Buffer
	p.cmd = exec.Command(program, "-config.file="+config)
	p.cmd.Stdout, p.cmd.Stderr = &log, &log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", program, log.String())
		}
	})
	p.client = dialOTLP(t, p.otlp)
	wait.For(t, program, func() bool { _, err := p.get("/ready"); return err == nil })
	return p
}

// dialOTLP returns a client of the OTLP endpoint at an address.
func dialOTLP(t testing.TB, address string) ptraceotlp.GRPCClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return ptraceotlp.NewGRPCClient(conn)
}

// relay passes on a request, and its answer.
func (p *tempo) relay(ctx context.Context, r otlptest.Request) error {
	_, err := p.client.Export(ctx, ptraceotlp.NewExportRequestFromTraces(r.Traces))
	return err
}

// trace returns what Tempo has of a trace, nil if it has nothing yet.
func (p *tempo) trace(id string) []otlptest.Span {
	body, err := p.get("/api/traces/" + id)
	if err != nil {
		return nil
	}
	traces, err := new(ptrace.ProtoUnmarshaler).UnmarshalTraces(body)
	if err != nil {
		return nil
	}
	return otlptest.SpansOf(traces)
}

func (p *tempo) get(path string) ([]byte, error) {
	return otlptest.Get("http://"+p.query+path, "application/protobuf")
}
