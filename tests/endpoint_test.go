package tests

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
)

func TestEndpointThatIsDownAndComesBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  map[string]string
	}{
		{"with a spool", nil},
		{"without a spool", map[string]string{"clntrace-spool-size": "0"}},
		{"http", map[string]string{"clntrace-otlp-protocol": "http/protobuf"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Reserve(t)
			cfg := config(r, tc.set)
			if tc.name == "http" {
				cfg.Options["clntrace-otlp-endpoint"] = r.HTTPEndpoint()
			}
			n := launch(t, cfg)
			n.Senders(sender).Replay(load(t, recording.Xpay))
			down := waitStats(t, n, "the endpoint to be found unreachable", func(s report) bool {
				return s.Status == "backend_unreachable" && s.Datagrams.Accepted == 156
			})
			if waiting := down.Spans.Pending + down.Spans.Spooled; waiting != 156 {
				t.Errorf("%d spans wait: %+v", waiting, down.Spans)
			}
			if down.Export.State != "unreachable" || down.Export.LastError == "" || down.Export.LastSuccess != nil {
				t.Errorf("export %+v", down.Export)
			}
			r.Start(t)
			r.WaitSpans(t, 156)
			up := waitStats(t, n, "the endpoint to be found again", func(s report) bool {
				return s.Status == "ok" && s.Spans.Exported == 156
			})
			if up.Export.State != "connected" || up.Export.LastSuccess == nil || up.Export.Retries == 0 {
				t.Errorf("export %+v", up.Export)
			}
			endCleanly(t, n)
			if got := len(byID(t, r.Spans())); got != 156 {
				t.Errorf("%d spans arrived of 156", got)
			}
			// One line when it starts, one when it is over.
			about := mentions(strings.TrimPrefix(cfg.Options["clntrace-otlp-endpoint"], "http://"))
			if lines := logged(n, "unusual", about); len(lines) != 2 {
				t.Errorf("%d lines about the endpoint, want 2: %q", len(lines), n.Logs())
			}
		})
	}
}

func TestEndpointThatIsUnavailableForAWhile(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.DataLoss} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			r := otlptest.Start(t)
			var requests atomic.Int32
			r.SetAnswer(func(context.Context, otlptest.Request) error {
				if requests.Add(1) > 3 {
					return nil
				}
				return status.Error(code, "busy")
			})
			n := launch(t, config(r, nil))
			send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 20)...)
			r.WaitSpans(t, 20)
			s := waitStats(t, n, "the spans to be exported", func(s report) bool { return s.Spans.Exported == 20 })
			if s.Export.Retries == 0 {
				t.Errorf("export %+v", s.Export)
			}
			endCleanly(t, n)
			if got := len(byID(t, r.Spans())); got != 20 {
				t.Errorf("%d spans arrived of 20", got)
			}
		})
	}
}

func TestEndpointThatRefusesForGood(t *testing.T) {
	for _, tc := range []struct {
		name string
		code codes.Code
		http bool
	}{
		{"invalid argument", codes.InvalidArgument, false},
		{"http 400", codes.InvalidArgument, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Start(t)
			r.SetAnswer(func(context.Context, otlptest.Request) error { return status.Error(tc.code, "who are you?") })
			cfg := config(r, nil)
			if tc.http {
				cfg.Options["clntrace-otlp-protocol"], cfg.Options["clntrace-otlp-endpoint"] = "http/protobuf", r.HTTPEndpoint()
			}
			n := launch(t, cfg)
			s := n.Senders(sender).Start("lightningd")
			send(t, s, recording.Numbered("extend_tip", 1, 20)...)
			waitStats(t, n, "a refusal", func(s report) bool { return s.Spans.RejectedByBackend == 20 })
			send(t, s, recording.Numbered("extend_tip", 21, 20)...)
			got := waitStats(t, n, "a second refusal", func(s report) bool { return s.Spans.RejectedByBackend == 40 })
			if !strings.Contains(got.Export.LastError, "who are you?") {
				t.Errorf("last error %q", got.Export.LastError)
			}
			endCleanly(t, n)
			why := func(line string) bool { return strings.Contains(line, "who are you?") }
			if lines := slices.DeleteFunc(messages(n), func(m string) bool { return !why(m) }); len(lines) != 1 {
				t.Errorf("%d lines with the reason, want 1: %q", len(lines), n.Logs())
			}
		})
	}
}

// What an endpoint says of the sender or the place somebody will correct, so it costs
// no span.
func TestEndpointThatRefusesTheSender(t *testing.T) {
	for _, tc := range []struct {
		name string
		code codes.Code
		http bool
	}{
		{"unauthenticated", codes.Unauthenticated, false},
		{"permission denied", codes.PermissionDenied, false},
		{"unimplemented", codes.Unimplemented, false},
		{"http 401", codes.Unauthenticated, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Start(t)
			r.SetAnswer(func(context.Context, otlptest.Request) error { return status.Error(tc.code, "who are you?") })
			cfg := config(r, nil)
			if tc.http {
				cfg.Options["clntrace-otlp-protocol"], cfg.Options["clntrace-otlp-endpoint"] = "http/protobuf", r.HTTPEndpoint()
			}
			n := launch(t, cfg)
			send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 20)...)
			got := waitStats(t, n, "a refusal", func(s report) bool { return s.Export.State == "refusing" && s.Spans.Spooled == 20 })
			if got.Status != "degraded" || !strings.Contains(got.Export.LastError, "who are you?") || !slices.ContainsFunc(got.Warnings, mentions("who are you?")) {
				t.Errorf("status %s, last error %q, warnings %q", got.Status, got.Export.LastError, got.Warnings)
			}
			r.SetAnswer(nil)
			r.WaitSpans(t, 20)
			waitStats(t, n, "the spans to be exported", func(s report) bool { return s.Spans.Exported == 20 && s.Status == "ok" })
			endCleanly(t, n)
			if got := len(byID(t, r.Spans())); got != 20 {
				t.Errorf("%d spans arrived of 20", got)
			}
			why := func(line string) bool { return strings.Contains(line, "who are you?") }
			if lines := slices.DeleteFunc(messages(n), func(m string) bool { return !why(m) }); len(lines) != 1 {
				t.Errorf("%d lines with the reason, want 1: %q", len(lines), n.Logs())
			}
		})
	}
}

func TestPartialSuccess(t *testing.T) {
	t.Parallel()
	cfg := config(otlptest.Reserve(t), map[string]string{"clntrace-otlp-endpoint": otlptest.StartPartial(t, "too old")})
	n := launch(t, cfg)
	send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 20)...)
	s := settled(t, n, 20)
	if s.Spans.RejectedByBackend == 0 || s.Spans.RejectedByBackend != s.Export.Batches || s.Spans.Exported != 20-s.Spans.RejectedByBackend {
		t.Errorf("one span of each of %d batches was rejected: %+v", s.Export.Batches, s.Spans)
	}
	if !strings.Contains(s.Export.LastError, "too old") {
		t.Errorf("last error %q", s.Export.LastError)
	}
	endCleanly(t, n)
}

// killedWithASpool is a receiver that does not run, and the configuration of a
// node whose plugin was killed when all spans of a payment were on disk.
func killedWithASpool(t *testing.T) (*otlptest.Receiver, lightningdtest.Config) {
	t.Helper()
	r := otlptest.Reserve(t)
	cfg := config(r, nil)
	cfg.LightningDir = lightningdtest.Dir(t)
	first := launch(t, cfg)
	first.Senders(sender).Replay(load(t, recording.Xpay))
	waitStats(t, first, "all spans on disk", func(s report) bool { return s.Spans.Spooled == 156 })
	first.Signal(syscall.SIGKILL)
	first.WaitExit()
	return r, cfg
}

// deliversTheRest starts a node again whose last life has left all spans of a
// payment in the spool.
func deliversTheRest(t *testing.T, r *otlptest.Receiver, cfg lightningdtest.Config) {
	t.Helper()
	n := launch(t, cfg)
	r.WaitSpans(t, 156)
	s := waitStats(t, n, "an empty spool", func(s report) bool { return s.Spans.Spooled == 0 && s.Spans.Pending == 0 })
	if s.Spans.Exported != 156 || s.Datagrams.Accepted != 156 {
		t.Errorf("%+v, %+v", s.Spans, s.Datagrams)
	}
	endCleanly(t, n)
	if got := len(byID(t, r.Spans())); got != 156 {
		t.Errorf("%d spans arrived of 156", got)
	}
}

// SIGKILL leaves no time to spool; what was spooled before survives it.
func TestSpoolSurvivesSIGKILL(t *testing.T) {
	t.Parallel()
	r, cfg := killedWithASpool(t)

	r.Start(t)
	deliversTheRest(t, r, cfg)
}

func TestDamagedSpool(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func([]byte) []byte
	}{
		{"cut", func(b []byte) []byte { return b[:len(b)/2] }},
		{"garbage behind", func(b []byte) []byte { return append(b, "garbage garbage garbage"...) }},
		{"garbage inside", func(b []byte) []byte { copy(b[len(b)/2:], "garbage garbage garbage"); return b }},
		{"zeros", func(b []byte) []byte { clear(b); return b }},
		{"empty", func([]byte) []byte { return nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r, cfg := killedWithASpool(t)
			damage(t, filepath.Join(cfg.LightningDir, lightningdtest.Network, "clntrace-spool"), tc.damage)

			r.Start(t)
			second := launch(t, cfg)
			send(t, second.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 3)...)
			r.Wait(t, "new spans", func(spans []otlptest.Span) bool {
				return len(slices.DeleteFunc(spans, func(s otlptest.Span) bool { return s.Name != "extend_tip" || s.ID > "00000000000000ff" })) == 3
			})
			waitStats(t, second, "an empty spool", func(s report) bool { return s.Spans.Spooled == 0 && s.Spans.Pending == 0 })
			endCleanly(t, second)
			byID(t, r.Spans()) // nothing twice
			if lines := slices.DeleteFunc(messages(second), func(m string) bool { return !strings.Contains(m, "spool") }); len(lines) == 0 {
				t.Errorf("no line tells of the damage: %q", second.Logs())
			}
		})
	}
}

func damage(t *testing.T, dir string, change func([]byte) []byte) {
	t.Helper()
	damaged := 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return err
		}
		damaged++
		return os.WriteFile(path, change(b), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if damaged == 0 {
		t.Fatalf("nothing to damage in %s", dir)
	}
}

func TestSpoolDirectoryThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	r := otlptest.Reserve(t)
	file := filepath.Join(lightningdtest.Dir(t), "file")
	write(t, file)
	n := launch(t, config(r, map[string]string{"clntrace-spool-dir": filepath.Join(file, "spool")}))
	n.Senders(sender).Replay(load(t, recording.Xpay))
	s := waitStats(t, n, "a warning", func(s report) bool {
		return s.Datagrams.Accepted == 156 && slices.ContainsFunc(s.Warnings, mentions(file))
	})
	if s.Spans.Spooled != 0 {
		t.Errorf("%+v", s.Spans)
	}
	r.Start(t)
	r.WaitSpans(t, 156) // as without a spool
	endCleanly(t, n)
}

// Plaintext to another host is allowed, and logged once.
func TestPlaintextToAnotherHostIsTold(t *testing.T) {
	for _, tc := range []struct {
		endpoint string
		told     int
	}{
		{"http://192.0.2.1:4317", 1}, // an address that is nobody's
		{"http://127.0.0.1:1", 0},
		{"http://localhost:1", 0},
		{"https://192.0.2.1:4317", 0},
	} {
		t.Run(tc.endpoint, func(t *testing.T) {
			t.Parallel()
			n := launch(t, config(otlptest.Reserve(t), map[string]string{"clntrace-otlp-endpoint": tc.endpoint}))
			stats(t, n)
			n.CloseInput()
			n.WaitExit()
			lines := logged(n, "unusual", func(m string) bool {
				m = strings.ToLower(m)
				return strings.Contains(m, "plain") || strings.Contains(m, "encrypt") || strings.Contains(m, "tls")
			})
			if len(lines) != tc.told {
				t.Errorf("told %d times, want %d: %q", len(lines), tc.told, n.Logs())
			}
		})
	}
}

// The options beat the environment, and the secrets in it are written nowhere.
func TestSecretsOfTheEnvironmentAreNotShown(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Start(t)
			cfg := config(r, map[string]string{
				"clntrace-otlp-protocol": protocol, "clntrace-otlp-headers": "a=b", "clntrace-metrics": "true",
			})
			if protocol != "grpc" {
				cfg.Options["clntrace-otlp-endpoint"] = r.HTTPEndpoint()
			}
			cfg.Env = []string{"OTEL_EXPORTER_OTLP_HEADERS=hunter2", "OTEL_EXPORTER_OTLP_METRICS_HEADERS=authorization=hunter2%zz"}
			n := launch(t, cfg)
			n.Senders(sender).Replay(load(t, recording.Xpay))
			r.WaitSpans(t, 156)
			endCleanly(t, n)
			if said := n.Stderr(); said != "" {
				t.Errorf("standard error: %s", said)
			}
			if lines := logged(n, "", mentions("hunter2")); len(lines) > 0 {
				t.Errorf("logged: %q", lines)
			}
		})
	}
}
