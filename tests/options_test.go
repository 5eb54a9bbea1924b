package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
)

func TestManifest(t *testing.T) {
	type announced struct {
		Type    string
		Dynamic bool
		Default string
	}
	want := map[string]announced{
		"clntrace-otlp-endpoint":       {"string", true, ""},
		"clntrace-otlp-protocol":       {"string", false, ""},
		"clntrace-otlp-headers":        {"string-conceal", true, ""},
		"clntrace-otlp-timeout":        {"string", false, `"10s"`},
		"clntrace-otlp-compression":    {"string", false, `"none"`},
		"clntrace-otlp-ca-file":        {"string", false, ""},
		"clntrace-otlp-cert-file":      {"string", false, ""},
		"clntrace-otlp-key-file":       {"string", false, ""},
		"clntrace-service-name":        {"string", false, ""},
		"clntrace-service-namespace":   {"string", false, ""},
		"clntrace-resource-attributes": {"string", false, ""},
		"clntrace-group-requests":      {"bool", false, "true"},
		"clntrace-sample-ratio":        {"string", true, `"1"`},
		"clntrace-drop-spans":          {"string", true, ""},
		"clntrace-redact-tags":         {"string", true, ""},
		"clntrace-queue-size":          {"int", false, "65536"},
		"clntrace-batch-size":          {"int", false, "2048"},
		"clntrace-batch-delay":         {"string", false, `"1s"`},
		"clntrace-spool-dir":           {"string", false, ""},
		"clntrace-spool-size":          {"int", false, "64"},
		"clntrace-span-names":          {"string", false, `"semantic"`},
		"clntrace-payments":            {"string", true, `"local"`},
		"clntrace-recorder-size":       {"int", false, "16"},
		"clntrace-prometheus-listen":   {"string", false, ""},
		"clntrace-allow-uids":          {"string", false, ""},
		"clntrace-metrics":             {"flag", false, ""},
	}
	t.Parallel()
	n := lightningdtest.Start(t, lightningdtest.Config{Plugin: clntrace})
	m := n.GetManifest()
	got := map[string]announced{}
	for _, o := range m.Options {
		// An option without a default is absent from init: whether a default
		// is announced or known to the plugin alone makes no difference.
		a := announced{o.Type, o.Dynamic, want[o.Name].Default}
		switch text := string(o.Default); text {
		case "", "null", `""`, "false":
		default:
			a.Default = text
		}
		got[o.Name] = a
		if o.Description == "" {
			t.Errorf("%s has no description", o.Name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("options: -want +got\n%s", diff)
	}
	if !m.CanCheck || !slices.Contains(m.Subscriptions, "shutdown") || !m.Dynamic {
		t.Errorf("cancheck %v, subscriptions %q, dynamic %v", m.CanCheck, m.Subscriptions, m.Dynamic)
	}
	methods := []string{}
	for _, method := range m.RPCMethods {
		methods = append(methods, method.Name)
	}
	if !slices.Equal(methods, []string{"tracestats", "listtraces"}) {
		t.Errorf("methods %q", methods)
	}
}

func TestDeveloperArguments(t *testing.T) {
	for _, arg := range []string{"--developer", "--dev-debug-self"} {
		t.Run(arg, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Start(t)
			cfg := config(r, nil)
			cfg.Args = []string{arg}
			n := launch(t, cfg)
			if s := stats(t, n); s.Status != "ok" {
				t.Errorf("status %q: %q", s.Status, s.Warnings)
			}
			endCleanly(t, n)
		})
	}
}

func TestBadOptionsDegradeAndAreNamed(t *testing.T) {
	for _, tc := range []struct{ option, value string }{
		{"clntrace-otlp-endpoint", "ftp://localhost:4317"},
		{"clntrace-otlp-endpoint", "http://"},
		{"clntrace-otlp-endpoint", "http://localhost:99999"},
		{"clntrace-otlp-endpoint", "http://local host"},
		{"clntrace-otlp-endpoint", "unix://"},
		{"clntrace-otlp-protocol", "thrift"},
		{"clntrace-otlp-timeout", "10"},
		{"clntrace-otlp-timeout", "-1s"},
		{"clntrace-otlp-timeout", "0s"},
		{"clntrace-otlp-compression", "zstd"},
		{"clntrace-otlp-ca-file", "/nonexistent/ca.pem"},
		{"clntrace-resource-attributes", "novalue"},
		{"clntrace-sample-ratio", "1.1"},
		{"clntrace-sample-ratio", "-0.5"},
		{"clntrace-sample-ratio", "NaN"},
		{"clntrace-sample-ratio", "half"},
		{"clntrace-queue-size", "0"},
		{"clntrace-queue-size", "-5"},
		{"clntrace-batch-size", "0"},
		{"clntrace-batch-delay", "soon"},
		{"clntrace-spool-size", "-1"},
		{"clntrace-allow-uids", "bob"},
		{"clntrace-allow-uids", "4294967296"},
	} {
		t.Run(strings.TrimPrefix(tc.option, "clntrace-")+"="+tc.value, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Start(t)
			n := launch(t, config(r, map[string]string{tc.option: tc.value}))
			s := stats(t, n)
			if s.Status != "degraded" {
				t.Errorf("status %q", s.Status)
			}
			named := func(text string) bool { return strings.Contains(text, tc.option) && strings.Contains(text, tc.value) }
			if !slices.ContainsFunc(s.Warnings, named) {
				t.Errorf("no warning names option and value: %q", s.Warnings)
			}
			endCleanly(t, n)
			if lines := logged(n, "broken", named); len(lines) != 1 {
				t.Errorf("%d lines at broken name option and value, want 1: %q", len(lines), n.Logs())
			}
		})
	}
}

// What a bad option withheld, a good setconfig delivers.
func TestDegradedPluginRecovers(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	n := launch(t, config(r, map[string]string{"clntrace-otlp-endpoint": "ftp://x"}))
	s := n.Senders(sender).Start("lightningd")
	send(t, s, recording.Numbered("extend_tip", 1, 5)...)
	if got := received(t, n, 5); got.Datagrams.Accepted != 5 || got.Status != "degraded" {
		t.Errorf("%+v, status %q", got.Datagrams, got.Status)
	}
	if err := n.SetConfig("clntrace-otlp-endpoint", r.GRPCEndpoint()); err != nil {
		t.Fatal(err)
	}
	send(t, s, recording.Numbered("extend_tip", 6, 5)...)
	r.WaitSpans(t, 5)
	waitStats(t, n, "status ok", func(s report) bool {
		return s.Status == "ok" && !slices.ContainsFunc(s.Warnings, mentions("clntrace-otlp-endpoint"))
	})
}

// A certificate is of no use without its key.
func TestClientCertificateNeedsItsKey(t *testing.T) {
	const cert, key = "clntrace-otlp-cert-file", "clntrace-otlp-key-file"
	for _, set := range []map[string]string{
		{cert: "/nonexistent/cert.pem"}, {key: "/nonexistent/key.pem"}, {cert: "/nonexistent/cert.pem", key: "/nonexistent/key.pem"},
	} {
		t.Run(fmt.Sprint(set), func(t *testing.T) {
			t.Parallel()
			n := launch(t, config(otlptest.Start(t), set))
			s := stats(t, n)
			if s.Status != "degraded" || !slices.ContainsFunc(s.Warnings, mentions(cert)) {
				t.Errorf("status %q, warnings %q", s.Status, s.Warnings)
			}
		})
	}
}

func TestSetConfigAndCheckRefuseBadValues(t *testing.T) {
	n, r := launchWith(t, nil)
	for _, tc := range []struct {
		option, value string
		names         []string
	}{
		{"clntrace-otlp-endpoint", "ftp://x", []string{"clntrace-otlp-endpoint", "ftp://x"}},
		{"clntrace-otlp-endpoint", "http://[::1", []string{"clntrace-otlp-endpoint"}},
		{"clntrace-sample-ratio", "2", []string{"clntrace-sample-ratio", "2"}},
		{"clntrace-sample-ratio", "<half>", []string{"clntrace-sample-ratio"}},
		{"clntrace-sample-ratio", "", []string{"clntrace-sample-ratio"}},
		{"clntrace-otlp-headers", "s3cr3t", []string{"clntrace-otlp-headers"}},
		{"clntrace-otlp-headers", "k=%zz-s3cr3t", []string{"clntrace-otlp-headers"}},
		{"clntrace-batch-size", "5", []string{"clntrace-batch-size"}}, // not dynamic
		{"clntrace-sting", "x", []string{"clntrace-sting"}},
		{"", "x", nil},
	} {
		for way, change := range map[string]func(string, string) error{"setconfig": n.SetConfig, "check": n.CheckSetConfig} {
			t.Run(way+" "+tc.option+"="+tc.value, func(t *testing.T) {
				refusal, ok := lightningdtest.AsRPCError(change(tc.option, tc.value))
				if !ok {
					t.Fatal("not refused")
				}
				for _, name := range tc.names {
					if !strings.Contains(refusal.Message, name) {
						t.Errorf("the message does not say %q: %s", name, refusal.Message)
					}
				}
				if strings.Contains(refusal.Message, "s3cr3t") {
					t.Errorf("the message tells a header: %s", refusal.Message)
				}
			})
		}
	}
	send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 1)...)
	r.WaitSpans(t, 1) // the refused endpoints changed nothing
	if s := stats(t, n); s.Status != "ok" {
		t.Errorf("status %q: %q", s.Status, s.Warnings)
	}
}

func TestCheckChangesNothing(t *testing.T) {
	n, r := launchWith(t, nil)
	for option, value := range map[string]string{
		"clntrace-otlp-endpoint": "off", "clntrace-sample-ratio": "0", "clntrace-drop-spans": "*", "clntrace-otlp-headers": "a=b",
	} {
		if err := n.CheckSetConfig(option, value); err != nil {
			t.Errorf("check %s=%s: %v", option, value, err)
		}
	}
	send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 1)...)
	r.WaitSpans(t, 1)
	if h := r.Requests()[0].Metadata.Get("a"); len(h) > 0 {
		t.Errorf("header a = %q", h)
	}
}

func TestSetConfig(t *testing.T) {
	const dropped, id = "extend_tip", "cli:xpay#1/cln:xpay#2/cln-xpay:getroutes#3"
	tagged := recording.New(recording.Span{
		TraceID: "0123456789abcdef0123456789abcdef", ID: "0123456789abcdef", Name: "jsonrpc", Start: now(), Tags: map[string]string{"id": id},
	})
	for _, tc := range []struct {
		option, value string
		payloads      [][]byte
		counted       func(report) bool
		requests      func([]otlptest.Request) bool
	}{
		{"clntrace-otlp-endpoint", "off", recording.Numbered(dropped, 1, 3),
			func(s report) bool { return s.Spans.Filtered == 3 }, func(r []otlptest.Request) bool { return len(r) == 0 }},
		{"clntrace-sample-ratio", "0", recording.Numbered(dropped, 1, 3),
			func(s report) bool { return s.Spans.SampledOut == 3 }, func(r []otlptest.Request) bool { return len(r) == 0 }},
		{"clntrace-drop-spans", "db_*, extend*", recording.Numbered(dropped, 1, 3),
			func(s report) bool { return s.Spans.Filtered == 3 }, func(r []otlptest.Request) bool { return len(r) == 0 }},
		{"clntrace-redact-tags", "payment_hash,id", [][]byte{tagged},
			func(s report) bool { return s.Spans.Exported == 1 },
			func(r []otlptest.Request) bool { return r[0].Spans[0].Attributes["id"] == "[redacted]" }},
		{"clntrace-otlp-headers", "x-token=a%20b,x-other=c", recording.Numbered(dropped, 1, 3),
			func(s report) bool { return s.Spans.Exported == 3 },
			func(r []otlptest.Request) bool {
				return slices.Equal(r[0].Metadata.Get("x-token"), []string{"a b"}) && slices.Equal(r[0].Metadata.Get("x-other"), []string{"c"})
			}},
	} {
		for _, way := range []string{"init", "setconfig"} {
			t.Run(tc.option+" at "+way, func(t *testing.T) {
				t.Parallel()
				r := otlptest.Start(t)
				set := map[string]string{}
				if way == "init" {
					set[tc.option] = tc.value
				}
				n := launch(t, config(r, set))
				if way == "setconfig" {
					if err := n.SetConfig(tc.option, tc.value); err != nil {
						t.Fatal(err)
					}
				}
				send(t, n.Senders(sender).Start("cln-xpay"), tc.payloads...)
				waitStats(t, n, "the counters", tc.counted)
				endCleanly(t, n)
				if !tc.requests(r.Requests()) {
					t.Errorf("requests: %+v", r.Requests())
				}
			})
		}
	}
}

// The redacted tag's value must not leave by another attribute either.
func TestRedactionLeavesNoCopy(t *testing.T) {
	const query, id = "SELECT s3cr3t FROM t", "cli:s3cr3t#1/cln:xpay#2/cln-xpay:getroutes#3"
	for _, group := range []string{"true", "false"} {
		t.Run("group-requests="+group, func(t *testing.T) {
			t.Parallel()
			n, r, address := launchScraped(t, map[string]string{"clntrace-redact-tags": "query,id", "clntrace-group-requests": group})
			s := n.Senders(sender).Start("cln-xpay")
			send(t, s,
				recording.New(recording.Span{TraceID: "0123456789abcdef0123456789abcdef", ID: "0123456789abcde1", Name: "db_query_prepared", Start: now(), Tags: map[string]string{"query": query}}),
				recording.New(recording.Span{TraceID: "1123456789abcdef0123456789abcdef", ID: "0123456789abcde2", Name: "jsonrpc", Start: now(), Tags: map[string]string{"id": id}}))
			r.WaitSpans(t, 2)
			if body := scrapes(t, address); bytes.Contains(body, []byte("s3cr3t")) || !bytes.Contains(body, []byte("db_query_prepared")) {
				t.Errorf("a scrape tells what was redacted, or nothing: %s", body)
			}
			endCleanly(t, n)
			for _, span := range r.Spans() {
				text, err := json.Marshal(span)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(text), "s3cr3t") {
					t.Errorf("span tells what was redacted: %s", text)
				}
			}
		})
	}
}

// What was shown before it was redacted is shown nowhere any more.
func TestRedactionReachesWhatCameBefore(t *testing.T) {
	const secret = "s3cr3t"
	n, r, address := launchScraped(t, map[string]string{"clntrace-group-requests": "true", "clntrace-metrics": "true"})
	s := n.Senders(sender).Start("cln-xpay")
	tagged := func(id, name, tag, value string) []byte {
		return recording.New(recording.Span{TraceID: id + id, ID: id, Name: name, Start: now(), Tags: map[string]string{tag: value}})
	}
	send(t, s,
		tagged("0123456789abcde1", "db_query_prepared", "query", "SELECT a FROM "+secret),
		tagged("0123456789abcde2", "jsonrpc", "id", "cli:"+secret+"#1/cln:xpay#2/cln-xpay:"+secret+"#3"),
		tagged("0123456789abcde3", "lightningd/jsonrpc", "method", secret))
	r.WaitSpans(t, 3)
	told := func() (all []string) {
		all = append(all, string(scrapes(t, address)))
		for _, params := range []object{{"limit": 1000}, {"limit": 1000, "format": "table"}} {
			text, err := n.Call("tracestats", params)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(text))
		}
		for _, params := range []object{{"limit": 1000}, {"sort": "open"}} {
			text, err := n.Call("listtraces", params)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(text))
		}
		return all
	}
	if all := told(); !strings.Contains(all[1], secret) {
		t.Errorf("it was not there before: %s", all[1])
	}
	if err := n.SetConfig("clntrace-redact-tags", "query,id,method"); err != nil {
		t.Fatal(err)
	}
	for i, text := range told() {
		if strings.Contains(text, secret) {
			t.Errorf("answer %d tells what is redacted now: %s", i, text)
		}
	}
	endCleanly(t, n) // which sends the metrics
	if len(r.Metrics()) == 0 {
		t.Error("no metrics came")
	}
	for _, m := range r.Metrics() {
		text, err := new(pmetric.JSONMarshaler).MarshalMetrics(m)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), secret) {
			t.Errorf("metrics tell what is redacted now: %s", text)
		}
	}
}

func TestHeadersAreSecret(t *testing.T) {
	for _, tc := range []struct{ name, headers string }{
		{"good", "authorization=Bearer%20s3cr3t"},
		{"without a value", "s3cr3t"},
		{"bad escape", "authorization=%zz-s3cr3t"},
		{"bad name", "auth orization=s3cr3t"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Start(t)
			n := launch(t, config(r, map[string]string{"clntrace-otlp-headers": tc.headers}))
			text, err := n.Call("tracestats", object{"limit": 1000})
			if err != nil {
				t.Fatal(err)
			}
			table, err := n.Call("tracestats", object{"format": "table"})
			if err != nil {
				t.Fatal(err)
			}
			if tc.name == "good" {
				send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 1)...)
				if got := r.WaitRequests(t, 1)[0].Metadata.Get("authorization"); !slices.Equal(got, []string{"Bearer s3cr3t"}) {
					t.Errorf("authorization: %q", got)
				}
			}
			endCleanly(t, n)
			for _, told := range append([]string{string(text), string(table), n.Stderr()}, messages(n)...) {
				if strings.Contains(told, "s3cr3t") {
					t.Errorf("told the secret: %s", told)
				}
			}
		})
	}
}

func messages(n *lightningdtest.Node) (texts []string) {
	for _, l := range n.Logs() {
		texts = append(texts, l.Message)
	}
	return texts
}

func TestOptionBeatsEnvironment(t *testing.T) {
	for _, tc := range []struct {
		name    string
		env     func(env, option *otlptest.Receiver) []string
		option  bool // set the option too
		fromEnv bool // who gets the span
	}{
		{"option only", func(_, _ *otlptest.Receiver) []string { return nil }, true, false},
		{"both", func(env, _ *otlptest.Receiver) []string {
			return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + env.GRPCEndpoint()}
		}, true, false},
		{"environment only", func(env, _ *otlptest.Receiver) []string {
			return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + env.GRPCEndpoint()}
		}, false, true},
		{"traces before all signals", func(env, other *otlptest.Receiver) []string {
			return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + other.GRPCEndpoint(), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + env.GRPCEndpoint()}
		}, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			env, option := otlptest.Start(t), otlptest.Start(t)
			cfg := config(option, nil)
			cfg.Env = tc.env(env, option)
			if !tc.option {
				delete(cfg.Options, "clntrace-otlp-endpoint")
			}
			n := launch(t, cfg)
			send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 1)...)
			right, wrong := option, env
			if tc.fromEnv {
				right, wrong = env, option
			}
			right.WaitSpans(t, 1)
			endCleanly(t, n)
			if n := len(wrong.Requests()); n > 0 {
				t.Errorf("%d requests to the wrong endpoint", n)
			}
		})
	}
}

// What is about traces alone is the whole URL, anything else is a base; metrics
// go beside the spans.
func TestPathsOverHTTP(t *testing.T) {
	for _, tc := range []struct{ name, set, spans, metrics string }{
		{"option", "clntrace-otlp-endpoint=", "/v1/traces", "/v1/metrics"},
		{"option with a base", "clntrace-otlp-endpoint=/otlp", "/otlp/v1/traces", "/otlp/v1/metrics"},
		{"option with the whole path", "clntrace-otlp-endpoint=/otlp/v1/traces", "/otlp/v1/traces", "/otlp/v1/metrics"},
		{"variable of all signals", "OTEL_EXPORTER_OTLP_ENDPOINT=/otlp", "/otlp/v1/traces", "/otlp/v1/metrics"},
		{"variable of traces", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=/otlp/v1/traces", "/otlp/v1/traces", "/otlp/v1/metrics"},
		{"variable of traces with another path", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=/spans", "/spans", "/v1/metrics"},
		{"variable of traces without a path", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=", "/", "/v1/metrics"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			paths := make(chan string, 100)
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
			defer server.Close()
			name, path, _ := strings.Cut(tc.set, "=")
			cfg := config(otlptest.Reserve(t), map[string]string{"clntrace-otlp-protocol": "http/protobuf", "clntrace-metrics": "true"})
			delete(cfg.Options, "clntrace-otlp-endpoint")
			if strings.HasPrefix(name, "OTEL") {
				cfg.Env = append(cfg.Env, name+"="+server.URL+path)
			} else {
				cfg.Options[name] = server.URL + path
			}
			n := launch(t, cfg)
			send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 1)...)
			waitStats(t, n, "a span to be exported", func(r report) bool { return r.Spans.Exported == 1 })
			endCleanly(t, n) // sends metrics, too
			close(paths)
			var got []string
			for path := range paths {
				got = append(got, path)
			}
			got = slices.Compact(got) // metrics go every 30 s as well
			if want := []string{tc.spans, tc.metrics}; !slices.Equal(got, want) {
				t.Errorf("requests to %q, want %q", got, want)
			}
		})
	}
}

func TestTransports(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(*otlptest.Receiver) map[string]string
	}{
		{"grpc, gzip", func(r *otlptest.Receiver) map[string]string {
			return map[string]string{"clntrace-otlp-compression": "gzip"}
		}},
		{"grpc, no scheme", func(r *otlptest.Receiver) map[string]string {
			return map[string]string{"clntrace-otlp-endpoint": strings.TrimPrefix(r.GRPCEndpoint(), "http://")}
		}},
		{"http", func(r *otlptest.Receiver) map[string]string {
			return map[string]string{"clntrace-otlp-protocol": "http/protobuf", "clntrace-otlp-endpoint": r.HTTPEndpoint()}
		}},
		{"http, gzip", func(r *otlptest.Receiver) map[string]string {
			return map[string]string{"clntrace-otlp-protocol": "http/protobuf", "clntrace-otlp-endpoint": r.HTTPEndpoint(), "clntrace-otlp-compression": "gzip"}
		}},
		{"small batches", func(r *otlptest.Receiver) map[string]string { return map[string]string{"clntrace-batch-size": "10"} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Start(t)
			n := launch(t, config(r, tc.set(r)))
			datagrams := load(t, recording.Xpay)
			n.Senders(sender).Replay(datagrams)
			r.WaitSpans(t, len(datagrams))
			endCleanly(t, n)
			if got := len(byID(t, r.Spans())); got != len(datagrams) {
				t.Errorf("%d spans of %d", got, len(datagrams))
			}
			if tc.name == "small batches" {
				for _, request := range r.Requests() {
					if len(request.Spans) > 10 {
						t.Errorf("a batch of %d spans", len(request.Spans))
					}
				}
			}
		})
	}
}

func TestUnixEndpoint(t *testing.T) {
	t.Parallel()
	r := otlptest.StartUnix(t, filepath.Join(lightningdtest.Dir(t), "otlp %41?#.sock")) // none of it means anything in a path
	n := launch(t, config(r, nil))
	send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 3)...)
	r.WaitSpans(t, 3)
}

func TestTLS(t *testing.T) {
	for _, tc := range []struct {
		name             string
		http, ca, client bool
		arrives          bool
		says             string // last_error, if it does not arrive
	}{
		{name: "grpc", ca: true, client: true, arrives: true},
		{name: "http", http: true, ca: true, client: true, arrives: true},
		{name: "authority unknown", client: true, says: "certificate"},
		// In TLS 1.3 the client may learn of that only by the closed connection.
		{name: "no client certificate", ca: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r, files := otlptest.StartTLS(t)
			cfg := config(r, nil)
			if tc.http {
				cfg.Options["clntrace-otlp-protocol"], cfg.Options["clntrace-otlp-endpoint"] = "http/protobuf", r.HTTPEndpoint()
			}
			if tc.ca {
				cfg.Options["clntrace-otlp-ca-file"] = files.CA
			}
			if tc.client {
				cfg.Options["clntrace-otlp-cert-file"], cfg.Options["clntrace-otlp-key-file"] = files.ClientCert, files.ClientKey
			}
			n := launch(t, cfg)
			send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 3)...)
			if tc.arrives {
				r.WaitSpans(t, 3)
				return
			}
			s := waitStats(t, n, "the endpoint to be found unreachable", func(s report) bool { return s.Status == "backend_unreachable" })
			if s.Export.LastError == "" || !strings.Contains(s.Export.LastError, tc.says) {
				t.Errorf("last error %q", s.Export.LastError)
			}
		})
	}
}

// A relative spool directory would be one in lightningd's own.
func TestSpoolDirectoryDefault(t *testing.T) {
	t.Parallel()
	r := otlptest.Reserve(t)
	n := launch(t, config(r, nil))
	send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 3)...)
	waitStats(t, n, "spooled spans", func(s report) bool { return s.Spans.Spooled == 3 })
	if at := look(t, filepath.Join(n.Dir, "clntrace-spool")); at == "nothing" {
		t.Error("no clntrace-spool in the network's directory")
	}
}
