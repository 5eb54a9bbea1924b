package export

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"clntrace/collector/stats"
)

// after5s answers as then does, after 5 s that no context cuts short.
func after5s(then func(context.Context, []string) attempt) func(context.Context, []string) attempt {
	return func(ctx context.Context, names []string) attempt {
		time.Sleep(5 * time.Second)
		return then(ctx, names)
	}
}

// What the last endpoint answers after setconfig says nothing about the new.
func TestLateAnswerIsNotBlamedOnTheNewEndpoint(t *testing.T) {
	rejectSome := func(context.Context, []string) attempt {
		return attempt{acknowledged: true, rejected: 1, message: "too old"}
	}
	for _, tc := range []struct {
		what   string
		answer func(context.Context, []string) attempt
		want   stats.Counts
		state  string
	}{
		{"unavailable", unavailable, stats.Counts{Exported: 4}, StateConnected},
		{"refused", refuse, stats.Counts{Exported: 4}, StateConnected},
		{"acknowledged", acknowledge, stats.Counts{Exported: 4}, StateWaiting},
		{"partial success", rejectSome, stats.Counts{Exported: 3, RejectedByBackend: 1}, StateWaiting},
	} {
		for _, spooled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, spooled: %v", tc.what, spooled), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "spool")
				synctest.Test(t, func(t *testing.T) {
					old, next := &fakeClient{answer: after5s(tc.answer)}, &fakeClient{answer: acknowledge}
					cfg := spooling(t, dir)
					if spooled {
						old.set(unavailable)
					} else {
						cfg.SpoolSize = 0
					}
					p := startSpooling(t, cfg, old)
					p.number(0, 4)
					time.Sleep(time.Second)
					if spooled {
						old.set(after5s(tc.answer))
						time.Sleep(maxRetry) // the attempt of the drain is under way
					}
					p.connectTo(next)
					if err := p.Reconfigure(cfg, true); err != nil {
						t.Fatal(err)
					}
					logged := len(p.log.String())
					time.Sleep(10 * time.Second)
					p.now("after", tc.want)
					if report, since := p.Status(); report.State != tc.state || report.LastError != "" || !since.IsZero() {
						t.Errorf("the new endpoint is %+v, since %v", report, since)
					}
					if log := p.log.String()[logged:]; log != "" {
						t.Errorf("the log says of the new endpoint\n%s", log)
					}
					p.shutdown(time.Second)
				})
			})
		}
	}
}

func TestReasonsOfRefusalsDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		f := &fakeClient{answer: func(context.Context, []string) attempt {
			n++
			return attempt{message: fmt.Sprintf("InvalidArgument: %d", n)}
		}}
		cfg := spooling(t, "")
		cfg.SpoolSize = 0
		p := startSpooling(t, cfg, f)
		for i := range 150 {
			p.number(i, 1)
			time.Sleep(time.Second)
		}
		p.now("after", stats.Counts{RejectedByBackend: 150})
		if lines := strings.Count(p.log.String(), "level=WARN"); lines < 2 || lines > 3 {
			t.Errorf("%d warnings in 150 s:\n%s", lines, p.log.String())
		}
		p.shutdown(time.Second)
	})
}
