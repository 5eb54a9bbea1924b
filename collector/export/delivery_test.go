package export

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"clntrace/collector/otlp"
	"clntrace/collector/stats"
)

// after5s answers as then does, after 5 s that no context cuts short.
func after5s(then func(context.Context, []string) error) func(context.Context, []string) error {
	return func(ctx context.Context, names []string) error {
		time.Sleep(5 * time.Second)
		return then(ctx, names)
	}
}

// What the last endpoint answers after setconfig says nothing about the new.
func TestLateAnswerIsNotBlamedOnTheNewEndpoint(t *testing.T) {
	rejectSome := func(context.Context, []string) error {
		return &otlp.Failure{Kind: otlp.Partial, Rejected: 1, Reason: "too old"}
	}
	for _, tc := range []struct {
		what   string
		answer func(context.Context, []string) error
		want   stats.Counts
		state  string
	}{
		{"unavailable", unavailable, stats.Counts{Exported: 4}, StateConnected},
		{"refused", reject, stats.Counts{Exported: 4}, StateConnected},
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
		f := &fakeClient{answer: func(context.Context, []string) error {
			n++
			return &otlp.Failure{Kind: otlp.Rejected, Reason: fmt.Sprintf("InvalidArgument: %d", n)}
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
	withoutSpool(t, func(context.Context, []string) error {
		return &otlp.Failure{Kind: otlp.Partial, Rejected: 1}
	}, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
		p.number(0, 4)
		time.Sleep(time.Second)
		p.now("after", stats.Counts{Exported: 3, RejectedByBackend: 1})
		if report, _ := p.Status(); report.Rejection != noReason || report.LastError != noReason {
			t.Errorf("got %+v", report)
		}
		if want := "took a batch of 4 spans but rejected 1 of them: it does not say why, perhaps its log does (logged once"; !strings.Contains(p.log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, p.log.String())
		}
		p.shutdown(time.Second)
	})
}

func TestRemarkIsNoRejection(t *testing.T) {
	withoutSpool(t, func(context.Context, []string) error {
		return &otlp.Failure{Kind: otlp.Partial, Reason: "please upgrade"}
	}, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
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
	withoutSpool(t, reject, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
		p.number(0, 1)
		time.Sleep(time.Second)
		for what, then := range map[string]func(){
			"a remark": func() {
				f.set(func(context.Context, []string) error { return &otlp.Failure{Kind: otlp.Partial, Reason: "a remark"} })
				p.number(1, 1)
				time.Sleep(time.Second)
			},
			"a defect": func() { p.delivery.report(errors.New("a defect")) },
		} {
			then()
			if report, _ := p.Status(); report.LastError != what || !strings.HasPrefix(report.Rejection, "InvalidArgument: because") {
				t.Errorf("after %s: %+v", what, report)
			}
		}
		p.shutdown(time.Second)
	})
}

// An attempt may end, and the endpoint be replaced before what it came to is
// booked.
func TestAttemptIsVoidOnceTheEndpointIsReplaced(t *testing.T) {
	for _, result := range []*otlp.Failure{
		{Kind: otlp.Unavailable, Reason: "Unavailable: the old one"},
		{Kind: otlp.Rejected, Reason: "InvalidArgument: the old one"},
	} {
		withoutSpool(t, acknowledge, func(t *testing.T, cfg Config, f *fakeClient) {
			p := startSpooling(t, cfg, f)
			old, _ := p.delivery.endpoint.link.Current()
			if err := p.Connect(cfg); err != nil {
				t.Fatal(err)
			}
			v := p.delivery.book(t.Context(), old, stats.Counts{Pending: -1}, nil, 1, result)
			if v != pointless {
				t.Errorf("%q: verdict %d, want %d", result.Reason, v, pointless)
			}
			p.now("after", stats.Counts{})
			report, since := p.Status()
			if report.State != StateWaiting || report.LastError != "" || !since.IsZero() || p.log.String() != "" {
				t.Errorf("%q: the new endpoint is %+v, since %v; log:\n%s", result.Reason, report, since, p.log.String())
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
	p.delivery.connect = func(cfg otlp.Config) (*client, error) {
		message := "it is " + cfg.Endpoint.String()
		return &client{Client: &fakeClient{answer: func(context.Context, []string) error {
			return &otlp.Failure{Kind: otlp.Unavailable, Reason: message}
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

// A defect in the way of a batch costs that batch at most, never the process.
func TestDefectsAreCountedAndTold(t *testing.T) {
	panics := func(context.Context, []string) error { panic("boom") }
	for _, spooled := range []bool{false, true} {
		t.Run(fmt.Sprintf("spooled: %v", spooled), func(t *testing.T) {
			withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
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
	withoutSpool(t, acknowledge, func(t *testing.T, cfg Config, f *fakeClient) {
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

// An error has its time, and is not shown for ever.
func TestErrorsHaveATime(t *testing.T) {
	withoutSpool(t, reject, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
		p.number(0, 1)
		time.Sleep(time.Second)
		f.set(acknowledge)
		p.number(1, 1)
		time.Sleep(59 * time.Minute)
		report, _ := p.Status()
		if at := report.LastErrorAt; report.LastError == "" || at == nil || time.Since(*at).Round(time.Minute) != 59*time.Minute || report.Rejection == "" {
			t.Errorf("after 59 minutes: %+v", report)
		}
		time.Sleep(2 * time.Minute)
		if report, _ := p.Status(); report.LastError != "" || report.LastErrorAt != nil || report.Rejection != "" || !report.RejectedAt.IsZero() {
			t.Errorf("after an hour: %+v", report)
		}
		f.set(unavailable)
		p.number(2, 1)
		time.Sleep(2 * time.Hour)
		if report, _ := p.Status(); report.LastError == "" || time.Since(*report.LastErrorAt) > time.Minute {
			t.Errorf("in an outage: %+v", report)
		}
		p.shutdown(time.Second)
	})
}
