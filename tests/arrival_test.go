package tests

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
)

func TestEverySpanArrivesOnceAndUnchanged(t *testing.T) {
	for _, name := range []string{
		recording.Startup, recording.TraceparentStartup, recording.LossyStartup, recording.Xpay, recording.Pay,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, r := launchWith(t, map[string]string{"clntrace-span-names": "as-sent"})
			senders := n.Senders(sender)
			datagrams := load(t, name)
			senders.Replay(datagrams)
			r.WaitSpans(t, len(datagrams))
			endCleanly(t, n)

			arrived := byID(t, r.Spans())
			if len(arrived) != len(datagrams) {
				t.Errorf("%d spans arrived of %d", len(arrived), len(datagrams))
			}
			for _, d := range datagrams {
				compare(t, d, senders.For(d), arrived)
			}
		})
	}
}

// byID finds spans by the ids they came with; no two may have the same.
func byID(t *testing.T, spans []otlptest.Span) map[string]otlptest.Span {
	t.Helper()
	found := make(map[string]otlptest.Span, len(spans))
	for _, s := range spans {
		if _, twice := found[s.ID]; twice {
			t.Errorf("span %s (%s) arrived twice", s.ID, s.Name)
		}
		found[s.ID] = s
	}
	return found
}

// compare compares what arrived with what was sent.
func compare(t *testing.T, d recording.Datagram, from *lightningdtest.Sender, arrived map[string]otlptest.Span) {
	t.Helper()
	sent, err := d.Span()
	if err != nil {
		t.Fatal(err)
	}
	got, ok := arrived[sent.ID]
	if !ok {
		t.Errorf("span %s (%s) of %s never arrived", sent.ID, sent.Name, d.Exe)
		return
	}
	if summary, isText := got.Attributes["db.query.summary"].(string); sent.Tags["query"] != "" && (!isText || summary == "") {
		t.Errorf("span %s (%s) has no db.query.summary: %q", sent.ID, sent.Name, got.Attributes)
	}
	if diff := cmp.Diff(expected(sent), withoutContext(got)); diff != "" {
		t.Errorf("span %s (%s) of %s: -want +got\n%s", sent.ID, sent.Name, d.Exe, diff)
	}
	if diff := cmp.Diff(resourceOf(t, from), got.Resource); diff != "" {
		t.Errorf("resource of %s: -want +got\n%s", d.Exe, diff)
	}
}

// withoutContext leaves out of a span what other tests look at.
func withoutContext(s otlptest.Span) otlptest.Span {
	s.Attributes = maps.Clone(s.Attributes)
	for _, key := range []string{"db.query.summary", "db.system.name", "cln.request.wait", "cln.request.work"} {
		delete(s.Attributes, key)
	}
	s.Links, s.Resource, s.SchemaURL, s.ScopeVersion = nil, nil, "", ""
	return s
}

// expected is what a span must be in OTLP.
func expected(s recording.Span) otlptest.Span {
	want := otlptest.Span{
		TraceID: s.TraceID, ID: s.ID, ParentID: s.ParentID, Name: s.Name, Kind: "Internal",
		Start: s.Start.UTC(), Duration: s.Duration, Status: "Unset", Scope: "clntrace",
		Attributes: map[string]any{},
	}
	for k, v := range s.Tags {
		switch k {
		case "query":
			want.Attributes["db.query.text"] = v
		case "error":
			if v == "true" {
				want.Status = "Error"
			}
		default:
			want.Attributes[k] = v
		}
	}
	switch s.Name {
	case "db_exec_prepared", "db_query_prepared":
		want.Kind = "Client"
	case "lightningd/jsonrpc", "plugin/bitcoind":
		want.Kind = map[string]string{"lightningd/jsonrpc": "Server", "plugin/bitcoind": "Client"}[s.Name]
		want.Attributes["rpc.system.name"] = "jsonrpc"
		want.Attributes["rpc.method"] = s.Tags["method"]
	case "jsonrpc":
		want.Kind = "Client"
		want.Attributes["rpc.system.name"] = "jsonrpc"
		first, _, _ := strings.Cut(s.Tags["id"], "/")
		want.Attributes["cln.request.root"] = first
		last := s.Tags["id"][strings.LastIndexByte(s.Tags["id"], '/')+1:]
		_, method, _ := strings.Cut(last, ":")
		want.Attributes["rpc.method"], _, _ = strings.Cut(method, "#")
	}
	return want
}

// resourceOf is what must be known of a process.
func resourceOf(t *testing.T, s *lightningdtest.Sender) map[string]any {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"service.name":            s.Exe,
		"service.version":         lightningdtest.Version,
		"service.instance.id":     lightningdtest.NodeID,
		"process.pid":             int64(s.PID()),
		"process.executable.name": s.Exe,
		"host.name":               host,
		"cln.node.id":             lightningdtest.NodeID,
		"cln.node.alias":          lightningdtest.NodeAlias,
		"cln.network":             lightningdtest.Network,
	}
}

func TestDatabaseAttributes(t *testing.T) {
	for _, tc := range []struct {
		name, wallet string
		query        string
		summary      string
		system       any
	}{
		{"sqlite", "sqlite3:///tmp/lightningd.sqlite3", "SELECT id, state FROM channels WHERE id=?;", "SELECT channels", "sqlite"},
		{"postgres", "postgres://user@localhost/cln", "UPDATE channels SET state=? WHERE id=?;", "UPDATE channels", "postgresql"},
		{"insert", "sqlite3:///tmp/x", "INSERT INTO payments (id) VALUES (?);", "INSERT payments", "sqlite"},
		{"delete", "sqlite3:///tmp/x", "DELETE FROM datastore WHERE key=?", "DELETE datastore", "sqlite"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Start(t)
			cfg := config(r, nil)
			cfg.Wallet = tc.wallet
			n := launch(t, cfg)
			span := recording.Span{
				TraceID: "0123456789abcdef0123456789abcdef", ID: "0123456789abcdef", Name: "db_query_prepared",
				Start: now(), Tags: map[string]string{"query": tc.query},
			}
			send(t, n.Senders(sender).Start("lightningd"), recording.New(span))
			got := r.WaitSpans(t, 1)[0].Attributes
			want := map[string]any{"db.query.text": tc.query, "db.query.summary": tc.summary, "db.system.name": tc.system, "cln.span.name": "db_query_prepared"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestSpansBeforeInitArriveAfterIt(t *testing.T) {
	t.Parallel()
	// Before init the plugin knows only the environment.
	early, r := otlptest.Start(t), otlptest.Start(t)
	cfg := config(r, nil)
	cfg.Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + early.GRPCEndpoint()}
	n := lightningdtest.Start(t, cfg)
	n.GetManifest()

	datagrams := load(t, recording.Startup)
	n.Senders(sender).Replay(datagrams) // returns when all but a queue's worth is read
	n.Init()
	arrived := byID(t, r.WaitSpans(t, len(datagrams)))
	if len(arrived) != len(datagrams) {
		t.Errorf("%d spans arrived of %d", len(arrived), len(datagrams))
	}
	if n := len(early.Requests()); n > 0 {
		t.Errorf("%d requests went to the endpoint of the environment", n)
	}
	for _, s := range arrived {
		if s.Resource["cln.node.id"] != lightningdtest.NodeID {
			t.Fatalf("span %s of before init does not know the node: %v", s.ID, s.Resource)
		}
	}
}

func TestNothingIsExportedBeforeInit(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	cfg := config(r, nil)
	cfg.Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + r.GRPCEndpoint()}
	n := lightningdtest.Start(t, cfg)
	n.GetManifest()
	datagrams := load(t, recording.Xpay)
	n.Senders(sender).Replay(datagrams)
	n.CloseInput() // lightningd dies while starting
	n.WaitExit()
	if n := len(r.Requests()); n > 0 {
		t.Errorf("%d export requests before init", n)
	}
}

// Spans wait for the node's id, but not forever.
func TestExportWithoutANodeID(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	cfg := config(r, nil)
	cfg.HoldRPC = make(chan struct{}) // lightning-rpc takes calls and answers none
	n := launch(t, cfg)
	send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 1)...)
	got := r.WaitSpans(t, 1)[0].Resource
	for _, unknown := range []string{"cln.node.id", "cln.node.alias", "service.instance.id"} {
		if v, ok := got[unknown]; ok {
			t.Errorf("%s = %v, which nobody told", unknown, v)
		}
	}
	if got["service.name"] != "lightningd" || got["cln.network"] != lightningdtest.Network {
		t.Errorf("resource %v", got)
	}
}

func TestProcessesThatAreGone(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, nil)
	senders := n.Senders(sender)
	known, unknown := senders.Start("cln-xpay"), senders.Start("cln-askrene")
	send(t, known, recording.Numbered("jsonrpc", 1, 1)...)
	r.WaitSpans(t, 1)

	n.Signal(syscall.SIGSTOP) // so that both are gone when their spans are read
	send(t, known, recording.Numbered("jsonrpc", 2, 1)...)
	send(t, unknown, recording.Numbered("jsonrpc", 3, 1)...)
	for _, s := range []*lightningdtest.Sender{known, unknown} {
		if err := s.Exit(); err != nil {
			t.Fatal(err)
		}
	}
	n.Signal(syscall.SIGCONT)

	arrived := byID(t, r.WaitSpans(t, 3))
	for id, want := range map[string]struct {
		name string
		pid  int
	}{
		"0000000000000002": {"cln-xpay", known.PID()},
		"0000000000000003": {"lightningd", unknown.PID()}, // as the datagram says
	} {
		got := arrived[id].Resource
		if got["service.name"] != want.name || got["process.pid"] != int64(want.pid) {
			t.Errorf("span %s is from %v, want %v", id, got, want)
		}
	}
}

func TestServiceAttributes(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, map[string]string{
		"clntrace-service-name":        "my-node",
		"clntrace-service-namespace":   "fleet",
		"clntrace-resource-attributes": "deployment.environment.name=test,text=a%20b",
	})
	send(t, n.Senders(sender).Start("cln-xpay"), recording.Numbered("jsonrpc", 1, 1)...)
	got := r.WaitSpans(t, 1)[0].Resource
	for k, want := range map[string]any{
		"service.name": "my-node", "service.namespace": "fleet", "process.executable.name": "cln-xpay",
		"deployment.environment.name": "test", "text": "a b",
	} {
		if got[k] != want {
			t.Errorf("%s = %v, want %v", k, got[k], want)
		}
	}
}

// If all processes of a recording send at the same time, what arrives is exactly what
// the kernel took.
func TestWhatTheKernelTakesArrives(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, nil)
	datagrams := load(t, recording.Startup)
	taken := n.Senders(sender).Flood(datagrams)
	if taken == 0 {
		t.Fatal("the kernel took nothing")
	}
	r.WaitSpans(t, taken)
	endCleanly(t, n)
	if got := len(byID(t, r.Spans())); got != taken {
		t.Errorf("%d spans arrived of %d that were taken", got, taken)
	}
	t.Logf("%d of %d datagrams taken", taken, len(datagrams))
}

func TestMissingParentsAreNotInvented(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, nil)
	datagrams := load(t, recording.LossyStartup)
	n.Senders(sender).Replay(datagrams)
	r.WaitSpans(t, len(datagrams))
	endCleanly(t, n)
	missing := map[string]bool{}
	arrived := byID(t, r.Spans())
	for _, s := range arrived {
		if _, ok := arrived[s.ParentID]; !ok && s.ParentID != "" {
			missing[s.ParentID] = true
		}
	}
	if len(missing) != 2 {
		t.Errorf("%d parents are missing, want 2: %v", len(missing), slices.Collect(maps.Keys(missing)))
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	n, _ := launchWith(t, nil)
	senders := n.Senders(sender)
	datagrams := load(t, recording.Xpay)
	senders.Replay(datagrams)
	settled(t, n, uint64(len(datagrams)))
	got, err := tracestats(n, map[string]any{"limit": 1000})
	if err != nil {
		t.Fatal(err)
	}
	type key struct{ process, span string }
	want, counted := map[key]uint64{}, map[key]uint64{}
	for _, d := range datagrams {
		s, err := d.Span()
		if err != nil {
			t.Fatal(err)
		}
		want[key{d.Exe, s.Name}]++
	}
	for _, o := range got.Operations {
		counted[key{o.Process, o.Span}] += o.Count
	}
	if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(counted)); diff != "" {
		t.Errorf("operations: -want +got\n%s", diff)
	}
	if len(got.Processes) != 4 {
		t.Errorf("%d processes, want 4: %+v", len(got.Processes), got.Processes)
	}
}
