package tests

import (
	"context"
	"syscall"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// ends are the three ways in which lightningd ends a plugin.
var ends = []struct {
	name string
	end  func(*lightningdtest.Node)
}{
	{"shutdown", (*lightningdtest.Node).Shutdown},
	{"end of input", (*lightningdtest.Node).CloseInput},
	{"SIGTERM", func(n *lightningdtest.Node) { n.Signal(syscall.SIGTERM) }},
}

// With a healthy endpoint clntrace ends in less than 0.5 s, and without one it
// exports for at most 5 s. A busy machine takes longer, so the bounds only rule out
// waits that must not be: those for the node's id and for an endpoint last 5 s, and
// those for a batch to fill and for an answer are set to endless. The log shows the
// times.
const (
	healthyEnd = 4 * time.Second
	deadEnd    = wait.Limit / 2
	endless    = "1m"
)

func TestEndDeliversWhatWasSent(t *testing.T) {
	for _, tc := range ends {
		t.Run(tc.name, func(t *testing.T) {
			n, r := launchWith(t, map[string]string{"clntrace-batch-delay": endless})
			datagrams := load(t, recording.Startup)
			n.Senders(sender).Replay(datagrams) // some of them are still in the kernel
			tc.end(n)
			end(t, n, healthyEnd)
			if got := len(byID(t, r.Spans())); got != len(datagrams) {
				t.Errorf("%d spans arrived of %d", got, len(datagrams))
			}
		})
	}
}

// end waits for the plugin to end as it should.
func end(t *testing.T, n *lightningdtest.Node, within time.Duration) {
	t.Helper()
	began := time.Now()
	state := n.WaitExit()
	took := time.Since(began)
	t.Logf("ended in %v", took)
	if took > within {
		t.Errorf("took %v to end, more than %v", took, within)
	}
	if !state.Success() {
		t.Errorf("ended with %v", state)
	}
	if left := look(t, n.TraceSocket); left != "nothing" {
		t.Errorf("left behind: %s", left)
	}
}

func TestEndBeforeInit(t *testing.T) {
	for _, tc := range ends {
		if tc.name == "shutdown" {
			continue // lightningd sends it only after init
		}
		t.Run(tc.name, func(t *testing.T) {
			n := lightningdtest.Start(t, lightningdtest.Config{Plugin: clntrace})
			n.GetManifest()
			send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("plugins/init", 1, 5)...)
			tc.end(n)
			end(t, n, healthyEnd)
		})
	}
}

func TestEndWhileTheNodeIsUnknown(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	cfg := config(r, nil)
	cfg.HoldRPC = make(chan struct{})
	n := launch(t, cfg)
	send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 5)...)
	n.Shutdown()
	end(t, n, healthyEnd)
	if got := len(r.Spans()); got != 5 {
		t.Errorf("%d spans arrived of 5", got)
	}
}

func TestEndWithoutAnEndpoint(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer otlptest.Answer // nil: nobody listens
		set    map[string]string
	}{
		{"dead", nil, nil},
		{"dead, no spool", nil, map[string]string{"clntrace-spool-size": "0"}},
		{"unavailable", func(context.Context, otlptest.Request) error { return context.Canceled }, nil},
		{"hangs", func(ctx context.Context, _ otlptest.Request) error { <-ctx.Done(); return ctx.Err() }, nil},
		{"hangs, no spool", func(ctx context.Context, _ otlptest.Request) error { <-ctx.Done(); return ctx.Err() }, map[string]string{"clntrace-spool-size": "0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Reserve(t)
			r.SetAnswer(tc.answer)
			if tc.answer != nil {
				r.Start(t)
			}
			cfg := config(r, tc.set)
			cfg.Options["clntrace-otlp-timeout"] = endless
			cfg.LightningDir = lightningdtest.Dir(t)
			first := launch(t, cfg)
			first.Senders(sender).Replay(load(t, recording.Xpay))
			first.Shutdown()
			end(t, first, deadEnd)
			if tc.set["clntrace-spool-size"] == "0" {
				return
			}
			// What could not be sent is sent by the next run.
			r.SetAnswer(nil)
			r.Start(t)
			deliversTheRest(t, r, cfg)
		})
	}
}
