package otlp

import (
	"strings"
	"testing"
)

func mustParse(t testing.TB, endpoint string) Endpoint {
	t.Helper()
	e, err := ParseEndpoint(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestParseEndpoint(t *testing.T) {
	for _, tc := range []struct {
		in, host, url string
		tls           bool
		err           string
	}{
		{in: "http://localhost:4317", host: "localhost:4317", url: "http://localhost:4317/v1/traces"},
		{in: "https://otel.example:4317", host: "otel.example:4317", tls: true, url: "https://otel.example:4317/v1/traces"},
		{in: "https://otel.example", host: "otel.example:443", tls: true, url: "https://otel.example:443/v1/traces"},
		{in: "http://otel.example/base/", host: "otel.example:80", url: "http://otel.example:80/base/v1/traces"},
		{in: "http://otel.example/v1/traces", host: "otel.example:80", url: "http://otel.example:80/v1/traces"},
		{in: "localhost:4317", host: "localhost:4317", url: "http://localhost:4317/v1/traces"},
		{in: "[::1]:4317", host: "[::1]:4317", url: "http://[::1]:4317/v1/traces"},
		{in: "otel.example:4317", host: "otel.example:4317", tls: true, url: "https://otel.example:4317/v1/traces"},
		{in: "unix:///run/otel.sock", host: "/run/otel.sock", url: "http://localhost/v1/traces"},
		{in: "", err: "no host and port"},
		{in: "localhost", err: "no host and port"},
		{in: "localhost:0", err: "port"},
		{in: "localhost:x", err: "port"},
		{in: "ftp://localhost:1", err: "unknown scheme"},
		{in: "http://user:pw@localhost:1", err: "header"},
		{in: "http://localhost:1?x", err: "query"},
		{in: "http://:4317", err: "no host and port"},
		{in: "unix:relative", err: "absolute path"},
		{in: "unix:///", err: "absolute path of a socket"},
		{in: "unix:/", err: "absolute path of a socket"},
		{in: "unix://", err: "absolute path of a socket"},
		{in: "unix:", err: "absolute path of a socket"},
		{in: "unix:///run/", err: "absolute path of a socket"},
		{in: "unix:///run/..", err: "absolute path of a socket"},
		{in: "http://", err: "no host"},
		{in: "https:///v1", err: "no host"},
		{in: "http:", err: "port"},
		{in: "http://.:4318", err: "the host is neither"},
		{in: "-:4318", err: "the host is neither"},
		{in: "unix:///" + strings.Repeat("x", 107), err: "107"},
		{in: "unix:///" + strings.Repeat("x", 106), host: "/" + strings.Repeat("x", 106), url: "http://localhost/v1/traces"},
		{in: "otel_collector-1.example.:4317", host: "otel_collector-1.example.:4317", tls: true, url: "https://otel_collector-1.example.:4317/v1/traces"},
		{in: "[fe80::1%eth0]:4317", host: "[fe80::1%eth0]:4317", tls: true, url: "https://[fe80::1%25eth0]:4317/v1/traces"},
		{in: "http//localhost:4317", err: "the host is neither a name nor an address"},
		{in: "localhost/v1:4317", err: "neither"},
		{in: "local host:4317", err: "neither"},
		{in: "token@localhost:4317", err: "neither"},
		{in: "http://*:4317", err: "neither"},
		{in: "$HOST:4317", err: "neither"},
		{in: "localhost:+80", err: "port"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			e, err := ParseEndpoint(tc.in)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.Contains(err.Error(), "must be") {
					t.Fatalf("got %v, want an error about %q that says what is allowed", err, tc.err)
				}
				return
			}
			if err != nil || e.host != tc.host || e.tls != tc.tls || e.URL(Spans) != tc.url || e.String() != tc.in {
				t.Errorf("got %+v, %s, %v", e, e.URL(Spans), err)
			}
			if want := strings.TrimSuffix(tc.url, "/traces") + "/metrics"; e.URL(Metrics) != want {
				t.Errorf("metrics go to %s, want %s", e.URL(Metrics), want)
			}
		})
	}
	for _, tc := range []struct{ in, traces, metrics string }{
		{"http://localhost:4318", "http://localhost:4318/", "http://localhost:4318/v1/metrics"},
		{"http://localhost:4318/", "http://localhost:4318/", "http://localhost:4318/v1/metrics"},
		{"http://localhost:4318/v1/traces", "http://localhost:4318/v1/traces", "http://localhost:4318/v1/metrics"},
		{"https://otel.example/otlp/v1/traces", "https://otel.example:443/otlp/v1/traces", "https://otel.example:443/otlp/v1/metrics"},
		{"https://otel.example/spans/", "https://otel.example:443/spans/", "https://otel.example:443/v1/metrics"},
		{"localhost:4318", "http://localhost:4318/v1/traces", "http://localhost:4318/v1/metrics"},
		{"unix:///run/otel.sock", "http://localhost/v1/traces", "http://localhost/v1/metrics"},
	} {
		if e := mustParse(t, tc.in).ForTracesAlone(); e.URL(Spans) != tc.traces || e.URL(Metrics) != tc.metrics {
			t.Errorf("%s for traces alone: spans to %s, metrics to %s; want %s, %s", tc.in, e.URL(Spans), e.URL(Metrics), tc.traces, tc.metrics)
		}
	}
	if e := mustParse(t, "off"); !e.Off() || e.String() != "off" {
		t.Errorf("off is %+v", e)
	}
}
