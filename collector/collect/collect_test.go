package collect

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"clntrace/collector"
	"clntrace/collector/recorder"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		env  map[string]string
		err  []string // each part of the error; nil: none
	}{
		{"options", []string{"--socket", "/s", "--otlp-endpoint=off", "--sample-ratio", "0.5", "--metrics", "--group-requests=false", "-queue-size=10"}, nil, nil},
		{"faults", []string{"--sample-ratio=2", "--otlp-headers=hunter2"}, map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "x"},
			[]string{"--sample-ratio: got '2'", "--otlp-headers: entry 1", "--socket: not given", "OTEL_EXPORTER_OTLP_PROTOCOL: got 'x'"}},
		{"unknown", []string{"--nonsense=1"}, nil, []string{"--nonsense is not an option", "clntrace help collect"}},
		{"as in lightningd's config", []string{"--clntrace-otlp-endpoint=off"}, nil, []string{"--clntrace-otlp-endpoint is not an option, --otlp-endpoint is"}},
		{"without a value", []string{"--metrics", "--socket"}, nil, []string{"--socket: has no value, must be --socket=VALUE"}},
		{"no option's form", []string{"---socket=/s"}, nil, []string{"'---socket=/s' is not an option"}},
		{"a socket that can never be", []string{"--socket=/"}, nil, []string{"--socket: / exists and is not a socket (a directory); start collect with another --socket"}},
		{"without a name", []string{"--socket=/s", "--=x"}, nil, []string{"'--=x' is not an option"}},
		{"a misspelt one", []string{"--socket=/s", "--sample-ration=1"}, nil, []string{"--sample-ration is not an option, --sample-ratio is"}},
		{"a word", []string{"--socket=/s", "stray"}, nil, []string{"'stray' is not an option"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(tt.args, func(name string) string { return tt.env[name] })
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
	if _, err := parse([]string{"--help"}, os.Getenv); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help gives %v", err)
	}
}

func TestCollect(t *testing.T) {
	spans := new(fakeCollector)
	signals := make(chan os.Signal, 8)
	signals <- syscall.SIGUSR1
	signals <- syscall.SIGUSR2
	signals <- syscall.SIGUSR1
	signals <- syscall.SIGTERM
	var tables bytes.Buffer
	run(spans, slog.New(slog.DiscardHandler), &tables, signals)
	if spans.asked != 4 || spans.shutdowns != 1 || spans.nodes != 1 {
		t.Errorf("got %+v, want statistics twice, before and after the end, one shutdown, and one node that is not known", spans)
	}
	// That it listens no more is as it should be then.
	if text := tables.String(); strings.Count(text, "\nsocket   listening") != 2 || !strings.Contains(text, "\nsocket   stopped listening") {
		t.Errorf("got\n%s", text)
	}
	for _, part := range []string{"aabbccdd", "Trace aabbccddeeff: xpay", "And 7 more."} {
		if !strings.Contains(tables.String(), part) {
			t.Errorf("SIGUSR2 does not print %q:\n%s", part, tables.String())
		}
	}
}

// fakeCollector counts what it is told.
type fakeCollector struct{ asked, shutdowns, nodes int }

func (c *fakeCollector) SetNode(n collector.Node) {
	if n == (collector.Node{}) {
		c.nodes++
	}
}
func (c *fakeCollector) Stats(stats.Query) stats.Report {
	c.asked++
	state := "listening"
	if c.shutdowns > 0 {
		state = "not listening"
	}
	return stats.Report{Socket: stats.Socket{State: state}}
}
func (c *fakeCollector) Traces(q recorder.Query) (recorder.Answer, error) {
	kept := recorder.Summary{TraceID: "aabbccddeeff", Detail: "xpay"}
	switch q.ID {
	case "":
		return recorder.List{Traces: []recorder.Summary{kept, {TraceID: "gone"}}, More: 7}, nil
	case kept.TraceID:
		return recorder.Single{Trace: &recorder.Trace{Summary: kept}}, nil
	}
	return nil, recorder.ErrNone
}
func (c *fakeCollector) Shutdown(context.Context) error { c.shutdowns++; return nil }

// Whoever runs collect has typed --socket and --options, and reads of them.
func TestCollectSpeaksOfItsOwnOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want []string // in the log and in the statistics
	}{
		{"no directory", []string{"--socket=" + filepath.Join(dir, "no", "s")}, []string{"does not exist; create it", "another --socket"}},
		{"spool", []string{"--socket=" + filepath.Join(dir, "s"), "--spool-dir=" + filepath.Join(file, "spool")}, []string{"set --spool-dir to another path"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parsed, err := parse(append(tt.args, "--otlp-endpoint=http://127.0.0.1:1"), func(string) string { return "" })
			if err != nil {
				t.Fatal(err)
			}
			var log, tables bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, nil))
			spans := collector.Open(collector.Options{SocketPath: parsed.socket, Voice: voice.Collect, Logger: logger})
			spans.Start(parsed.config, nil)
			signals := make(chan os.Signal, 1)
			signals <- syscall.SIGTERM
			run(spans, logger, &tables, signals)
			for what, text := range map[string]string{"log": log.String(), "statistics": strings.Join(strings.Fields(tables.String()), " ")} {
				for _, part := range tt.want {
					if !strings.Contains(text, part) {
						t.Errorf("the %s does not say %q:\n%s", what, part, text)
					}
				}
				if strings.Contains(text, "clntrace-") || strings.Contains(text, "tracestats") || strings.Contains(text, "set CLN_TRACE_SOCKET") {
					t.Errorf("the %s speaks of a plugin's options:\n%s", what, text)
				}
			}
		})
	}
}
