package plugin

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"clntrace/collector"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
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
		{"unknown", []string{"--nonsense=1"}, nil, []string{"--nonsense: unknown", "clntrace collect --help"}},
		{"as in lightningd's config", []string{"--clntrace-otlp-endpoint=off"}, nil, []string{"--clntrace-otlp-endpoint: allowed here is --otlp-endpoint"}},
		{"without a value", []string{"--metrics", "--socket"}, nil, []string{"--socket: has no value, allowed is --socket=VALUE"}},
		{"no option's form", []string{"---socket=/s"}, nil, []string{"got '---socket=/s', allowed are options such as --socket=PATH"}},
		{"without a name", []string{"--socket=/s", "--=x"}, nil, []string{"got '--=x', allowed are options such as --socket=PATH"}},
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
		{"file at the path", []string{"--socket=" + file}, []string{"is not a socket", "another --socket"}},
		{"no directory", []string{"--socket=" + filepath.Join(dir, "no", "s")}, []string{"does not exist; create it", "another --socket"}},
		{"long path", []string{"--socket=/" + strings.Repeat("x", 200)}, []string{"the path in --socket has 201 bytes", "another --socket"}},
		{"spool", []string{"--socket=" + filepath.Join(dir, "s"), "--spool-dir=" + filepath.Join(file, "spool")}, []string{"or set --spool-dir"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parsed, err := parseCollect(append(tt.args, "--otlp-endpoint=http://127.0.0.1:1"), func(string) string { return "" })
			if err != nil {
				t.Fatal(err)
			}
			var log, tables bytes.Buffer
			logger := spokenLog(&log)
			spans := collector.Open(collector.Options{SocketPath: parsed.socket, Logger: logger, Voice: voice.Collect})
			spans.Start(parsed.config, nil)
			signals := make(chan os.Signal, 1)
			signals <- syscall.SIGTERM
			collect(spans, logger, &tables, signals)
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

func TestHelpNamesEveryOption(t *testing.T) {
	for text, lead := range map[string]string{Help(): "\n  clntrace-", collectHelp(): "\n  --"} {
		for line := range strings.SplitSeq(text, "\n") {
			if len(line) > 80 {
				t.Errorf("wider than a terminal: %s", line)
			}
		}
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
