package plugin

import (
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"clntrace/collector"
	"clntrace/collector/stats"
)

func TestParseCollect(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		env  map[string]string
		err  []string // each part of the error; nil: none
	}{
		{"options", []string{"--socket", "/s", "--otlp-endpoint=off", "--sample-ratio", "0.5", "--metrics", "--group-requests=false", "-queue-size=10"}, nil, nil},
		{"faults", []string{"--sample-ratio=2", "--otlp-headers=hunter2", "stray"}, map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "x"},
			[]string{"--sample-ratio: got '2'", "--otlp-headers: entry 1", "--socket: not given", "got 'stray', allowed are options only", "OTEL_EXPORTER_OTLP_PROTOCOL: got 'x'"}},
		{"unknown", []string{"--nonsense"}, nil, []string{"-nonsense"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseCollect(tt.args, func(name string) string { return tt.env[name] })
			if tt.err == nil {
				if err != nil {
					t.Fatal(err)
				}
				c := got.config
				if got.socket != "/s" || !c.Endpoint.Off() || c.SampleRatio != 0.5 || !c.Metrics || c.GroupRequests || c.QueueSize != 10 || c.SpoolDir != "" {
					t.Errorf("got %+v", got)
				}
				return
			}
			for _, part := range tt.err {
				if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("got %v, want %q in it", err, part)
				}
			}
		})
	}
	if _, err := parseCollect([]string{"--help"}, os.Getenv); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help gives %v", err)
	}
}

func TestCollect(t *testing.T) {
	spans := newFakeCollector()
	asked := 0
	spans.stats = func(q stats.Query) stats.Report { asked++; return stats.Report{} }
	signals := make(chan os.Signal, 8)
	signals <- syscall.SIGUSR1
	signals <- syscall.SIGUSR1
	signals <- syscall.SIGTERM
	collect(spans, slog.New(slog.DiscardHandler), io.Discard, signals)
	if asked != 3 || len(spans.shutdowns) != 1 {
		t.Errorf("statistics were printed %d times, want twice and at the end; %d shutdowns", asked, len(spans.shutdowns))
	}
	if got := <-spans.nodes; got != (collector.Node{}) {
		t.Errorf("the node is %+v", got)
	}
}

func TestHelpNamesEveryOption(t *testing.T) {
	for text, lead := range map[string]string{Help(): "\n  clntrace-", collectHelp(): "\n  --"} {
		for _, o := range options {
			if !strings.Contains(text, lead+o.name) {
				t.Errorf("%s%s is not in the help", lead, o.name)
			}
		}
		if text != strings.Map(func(r rune) rune {
			if r > '~' || r == '`' {
				return -1
			}
			return r
		}, text) {
			t.Error("the help is not plain ASCII")
		}
	}
}
