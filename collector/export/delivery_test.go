package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"

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
					if err := p.Connect(cfg); err != nil {
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

func TestRejectionWithoutAWordIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := spooling(t, "")
		cfg.SpoolSize = 0
		p := startSpooling(t, cfg, &fakeClient{answer: func(context.Context, []string) attempt {
			return attempt{acknowledged: true, rejected: 1}
		}})
		p.number(0, 4)
		time.Sleep(time.Second)
		p.now("after", stats.Counts{Exported: 3, RejectedByBackend: 1})
		if report, _ := p.Status(); report.Refusal != noReason || report.LastError != noReason {
			t.Errorf("got %+v", report)
		}
		if want := "took a batch of 4 spans but rejected 1 of them: it does not say why, perhaps its log does (logged once"; !strings.Contains(p.log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, p.log.String())
		}
		p.shutdown(time.Second)
	})
}

func TestRemarkIsNoRejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := spooling(t, "")
		cfg.SpoolSize = 0
		p := startSpooling(t, cfg, &fakeClient{answer: func(context.Context, []string) attempt {
			return attempt{acknowledged: true, message: "please upgrade"}
		}})
		p.number(0, 4)
		time.Sleep(time.Second)
		p.now("after", stats.Counts{Exported: 4})
		if log := p.log.String(); !strings.Contains(log, "took a batch of 4 spans and remarked: please upgrade") || strings.Contains(log, "reject") {
			t.Errorf("the log says\n%s", log)
		}
		p.shutdown(time.Second)
	})
}

// A remark of the endpoint's, and a defect that costs nothing, are not why
// spans were lost before.
func TestReasonOfLostSpansStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := spooling(t, "")
		cfg.SpoolSize = 0
		f := &fakeClient{answer: refuse}
		p := startSpooling(t, cfg, f)
		p.number(0, 1)
		time.Sleep(time.Second)
		for what, then := range map[string]func(){
			"a remark": func() {
				f.set(func(context.Context, []string) attempt { return attempt{acknowledged: true, message: "a remark"} })
				p.number(1, 1)
				time.Sleep(time.Second)
			},
			"a defect": func() { p.delivery.confess(errors.New("a defect")) },
		} {
			then()
			if report, _ := p.Status(); report.LastError != what || report.Refusal != "InvalidArgument: because" {
				t.Errorf("after %s: %+v", what, report)
			}
		}
		p.shutdown(time.Second)
	})
}

// An attempt may end, and the endpoint be replaced before what it came to is
// booked.
func TestAttemptIsVoidOnceTheEndpointIsReplaced(t *testing.T) {
	for _, result := range []attempt{
		{retryable: true, message: "Unavailable: the old one"},
		{message: "InvalidArgument: the old one"},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := spooling(t, "")
			cfg.SpoolSize = 0
			p := startSpooling(t, cfg, &fakeClient{answer: acknowledge})
			old, _ := p.delivery.endpoint.current()
			if err := p.Connect(cfg); err != nil {
				t.Fatal(err)
			}
			v := p.delivery.settle(t.Context(), old, stats.Counts{Pending: -1}, 1, &result, nil)
			if v != void {
				t.Errorf("%q: verdict %d, want %d", result.message, v, void)
			}
			p.now("after", stats.Counts{})
			report, since := p.Status()
			if report.State != StateWaiting || report.LastError != "" || !since.IsZero() || p.log.String() != "" {
				t.Errorf("%q: the new endpoint is %+v, since %v; log:\n%s", result.message, report, since, p.log.String())
			}
			p.shutdown(time.Second)
		})
	}
}

// What an endpoint says is told under its own name, however often another
// comes into use while attempts are under way.
func TestErrorsAreToldUnderTheirOwnEndpointsName(t *testing.T) {
	cfg := spooling(t, filepath.Join(t.TempDir(), "spool"))
	ports := []string{"11111", "22222"}
	p := &testPipeline{t: t}
	p.init()
	p.delivery.connect = func(cfg Config) (*link, error) {
		message := "it is " + cfg.Endpoint.String()
		return &link{client: &fakeClient{answer: func(context.Context, []string) attempt {
			return attempt{retryable: true, message: message}
		}}}, nil
	}
	p.start(cfg)
	p.SetNode(Node{})
	p.number(0, 8)
	told := 0
	for i := 0; i < 4000 || told == 0; i++ {
		cfg.Endpoint = mustParse(t, "http://127.0.0.1:"+ports[i%len(ports)])
		if err := p.Connect(cfg); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			time.Sleep(100 * time.Microsecond) // lets attempts begin and end
		}
		report, _ := p.Status()
		if report.LastError != "" {
			told++
			if report.LastError != "it is "+report.Endpoint {
				t.Fatalf("%s is said to have said %q", report.Endpoint, report.LastError)
			}
		}
	}
	p.shutdown(time.Second)
}

// slowToStop takes that long to stop.
type slowToStop struct {
	fakeClient
	takes   time.Duration
	stopped atomic.Bool
}

func (s *slowToStop) Stop(context.Context) error {
	time.Sleep(s.takes)
	s.stopped.Store(true)
	return nil
}

// At shutdown a link that was replaced is closed, too, in the time that there is.
func TestStopWaitsForReplacedLinks(t *testing.T) {
	const patience = 10 * time.Second
	for _, tc := range []struct {
		takes, waited time.Duration
		err           error
	}{
		{takes: time.Second, waited: time.Second},
		{takes: time.Minute, waited: patience, err: context.DeadlineExceeded},
	} {
		t.Run(tc.takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old := &slowToStop{takes: tc.takes}
				d := newDelivery(t.Context(), new(stats.Ledger), slog.New(slog.DiscardHandler), nil)
				for _, c := range []otlptrace.Client{old, new(fakeClient)} {
					d.connect = func(Config) (*link, error) { return &link{client: c}, nil }
					if err := d.use(spooling(t, "")); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				begin := time.Now()
				if err := d.Stop(ctx); !errors.Is(err, tc.err) {
					t.Errorf("got %v, want %v", err, tc.err)
				}
				if waited := time.Since(begin); waited != tc.waited {
					t.Errorf("waited for %v, want %v", waited, tc.waited)
				}
				if stopped := old.stopped.Load(); stopped != (tc.err == nil) {
					t.Errorf("stopped: %v", stopped)
				}
				d.closing.Wait()
			})
		})
	}
}

// A setconfig may come while the node shuts down.
func TestNoLinkStaysOpenIfUseAndStopComeTogether(t *testing.T) {
	cfg := spooling(t, "")
	for range 1000 {
		var open atomic.Int64
		d := newDelivery(t.Context(), new(stats.Ledger), slog.New(slog.DiscardHandler), nil)
		d.connect = func(Config) (*link, error) {
			open.Add(1)
			return &link{client: &countedClient{open: &open}}, nil
		}
		_ = d.use(cfg)
		var used sync.WaitGroup
		used.Go(func() { _ = d.use(cfg) })
		if err := d.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		used.Wait()
		if n := open.Load(); n != 0 {
			t.Fatalf("%d links are open", n)
		}
	}
}

// countedClient is one of those that are open until it is stopped.
type countedClient struct {
	fakeClient
	open *atomic.Int64
}

func (c *countedClient) Stop(context.Context) error {
	c.open.Add(-1)
	return nil
}

// A defect in the way of a batch costs that batch at most, never the process.
func TestDefectsAreCountedAndTold(t *testing.T) {
	panics := func(context.Context, []string) attempt { panic("boom") }
	for _, spooled := range []bool{false, true} {
		t.Run(fmt.Sprintf("spooled: %v", spooled), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			synctest.Test(t, func(t *testing.T) {
				f := &fakeClient{answer: unavailable}
				cfg := spooling(t, dir)
				if !spooled {
					cfg.SpoolSize = 0
					f.set(panics)
				}
				p := startSpooling(t, cfg, f)
				p.number(0, 4)
				time.Sleep(time.Second)
				f.set(panics)
				time.Sleep(2 * maxRetry)
				p.now("after the panic", stats.Counts{RejectedByBackend: 4})
				report, _ := p.Status()
				if want := "a defect of clntrace, please report it: boom"; !strings.HasPrefix(report.LastError, want) {
					t.Errorf("last error %q, want %q", report.LastError, want)
				}
				f.set(acknowledge)
				p.number(4, 4)
				time.Sleep(2 * maxRetry)
				p.now("later", stats.Counts{RejectedByBackend: 4, Exported: 4})
				if left := p.shutdown(time.Second); left != 0 || p.room.Spans() != 0 {
					t.Errorf("%d left, %d in memory", left, p.room.Spans())
				}
			})
		})
	}
}

// A span that cannot be described goes as it is.
func TestSpanThatMeetsADefectIsExported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := spooling(t, "")
		cfg.SpoolSize = 0
		f := &fakeClient{answer: acknowledge}
		p := startSpooling(t, cfg, f)
		whole, broken := newSpan(1, "whole"), newSpan(2, "broken")
		broken.Process = nil
		p.send(broken, whole)
		time.Sleep(time.Second)
		p.now("after", stats.Counts{Exported: 2})
		if !strings.Contains(p.log.String(), "a defect of clntrace") {
			t.Errorf("nobody is told: %s", p.log.String())
		}
		p.shutdown(time.Second)
	})
}
