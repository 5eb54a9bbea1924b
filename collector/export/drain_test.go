package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"clntrace/collector/correlate"
	"clntrace/collector/otlp"
	"clntrace/collector/policy"
	"clntrace/collector/stats"
)

// fakeClient is an endpoint without a network, so that hours can pass in no
// time. Spans are told apart by their names.
type fakeClient struct {
	otlptrace.Client

	mu       sync.Mutex
	answer   func(ctx context.Context, names []string) error
	got      []string // names, in the order of arrival
	arrivals []time.Time
	requests []time.Time
	largest  int // spans of a request
	size     int // bytes of the last request
}

func acknowledge(context.Context, []string) error { return nil }

func unavailable(context.Context, []string) error {
	return &otlp.Failure{Kind: otlp.Unavailable, Reason: "Unavailable: because"}
}

func reject(context.Context, []string) error {
	return &otlp.Failure{Kind: otlp.Rejected, Reason: "InvalidArgument: because"}
}

// hang is an endpoint that never answers, and a client that gives up in time.
func hang(ctx context.Context, _ []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	<-ctx.Done()
	return &otlp.Failure{Kind: otlp.Unavailable, Reason: ctx.Err().Error()}
}

// slow takes that long for each request.
func slow(d time.Duration) func(context.Context, []string) error {
	return func(ctx context.Context, _ []string) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return &otlp.Failure{Kind: otlp.Unavailable, Reason: ctx.Err().Error()}
		}
	}
}

// UploadTraces answers as the endpoint is told to.
func (f *fakeClient) UploadTraces(ctx context.Context, batch []*tracepb.ResourceSpans) error {
	var names []string
	for _, r := range batch {
		for _, scope := range r.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				names = append(names, s.GetName())
			}
		}
	}
	f.mu.Lock()
	answer := f.answer
	f.requests = append(f.requests, time.Now())
	f.largest = max(f.largest, len(names))
	f.size = requestBytes(batch)
	f.mu.Unlock()
	err := answer(ctx, names)
	if f := otlp.FailureOf(err); f != nil && f.Kind != otlp.Partial {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, names...)
	for range names {
		f.arrivals = append(f.arrivals, time.Now())
	}
	return err
}

func (f *fakeClient) Stop(context.Context) error { return nil }

func (f *fakeClient) set(answer func(context.Context, []string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fakeClient) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// spooling is a Config with a spool in dir.
func spooling(t testing.TB, dir string) Config {
	cfg := config(mustParse(t, "http://127.0.0.1:1"))
	cfg.SpoolDir, cfg.SpoolSize = dir, 1
	cfg.BatchSize, cfg.BatchDelay = 4, 100*time.Millisecond
	return cfg
}

// startSpooling starts a pipeline on f. It has to end in the test, not in its
// cleanup, for what runs in a synctest bubble ends there.
func startSpooling(t *testing.T, cfg Config, f *fakeClient) *testPipeline {
	p := &testPipeline{t: t}
	p.init()
	p.connectTo(f)
	p.start(cfg)
	p.SetNode(Node{})
	return p
}

// withSpool runs a test on a fake clock, with an endpoint that answers so at first, and a
// spool whose directory is not there yet.
func withSpool(t *testing.T, answer func(context.Context, []string) error, test func(*testing.T, Config, *fakeClient)) {
	dir := filepath.Join(t.TempDir(), "spool")
	synctest.Test(t, func(t *testing.T) {
		test(t, spooling(t, dir), &fakeClient{answer: answer})
	})
}

// withoutSpool is withSpool without a spool.
func withoutSpool(t *testing.T, answer func(context.Context, []string) error, test func(*testing.T, Config, *fakeClient)) {
	synctest.Test(t, func(t *testing.T) {
		cfg := spooling(t, "")
		cfg.SpoolSize = 0
		test(t, cfg, &fakeClient{answer: answer})
	})
}

func (f *fakeClient) arrival(at int) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.arrivals[at]
}

// connectTo has the next connection go to f.
func (p *testPipeline) connectTo(f *fakeClient) {
	p.delivery.connect = func(cfg otlp.Config) (*client, error) {
		if cfg.Endpoint.Off() {
			return nil, nil
		}
		return &client{Client: f}, nil
	}
}

// number sends spans named after numbers.
func (p *testPipeline) number(first, n int) {
	for i := first; i < first+n; i++ {
		p.send(newSpan(uint64(i+1), fmt.Sprintf("%05d", i)))
	}
}

// numbers are the names of n spans from first on, and so on for further pairs.
func numbers(ranges ...int) (names []string) {
	for at := 0; at+1 < len(ranges); at += 2 {
		for i := range ranges[at+1] {
			names = append(names, fmt.Sprintf("%05d", ranges[at]+i))
		}
	}
	return names
}

// now holds the counts against want.
func (p *testPipeline) now(what string, want stats.Counts) {
	p.t.Helper()
	synctest.Wait()
	got := p.ledger.Counts()
	if !got.Balanced() {
		p.t.Errorf("%s: the counts do not add up: %+v", what, got)
	}
	got.Received, got.Accepted = 0, 0
	if got != want {
		p.t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func spoolFiles(t testing.TB, dir string) (names []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.spans"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestOutageIsSpooledAndSentOldestFirst(t *testing.T) {
	withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
		for i := range 50 {
			p.number(2*i, 2)
			time.Sleep(time.Second)
		}
		p.now("away", stats.Counts{Spooled: 100})
		// One asks whether the endpoint is back, not each batch.
		if n := len(f.requests); n < 50/5 || n > 50/4+5 {
			t.Errorf("%d requests in 50 s", n)
		}
		f.set(acknowledge)
		time.Sleep(2 * maxRetry)
		p.now("back", stats.Counts{Exported: 100})
		if got := f.names(); !slices.Equal(got, numbers(0, 100)) {
			t.Errorf("arrived in the order %q", got)
		}
		if f.largest > 4 {
			t.Errorf("a request of %d spans, batches have 4 at most", f.largest)
		}
		p.number(100, 1)
		time.Sleep(time.Second)
		p.now("after", stats.Counts{Exported: 101})
		if left := spoolFiles(t, cfg.SpoolDir); len(left) != 0 || p.Spool().Bytes != 0 {
			t.Errorf("left behind: %q", left)
		}
		if n := strings.Count(p.log.String(), "level=WARN"); n != 2 {
			t.Errorf("%d warnings, want one at the start and one at the end:\n%s", n, p.log.String())
		}
		if left := p.shutdown(time.Second); left != 0 {
			t.Errorf("%d are left", left)
		}
	})
}

func TestNewSpansAreDeliveredWhileTheBacklogDrains(t *testing.T) {
	withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
		p.number(0, 400)
		time.Sleep(10 * time.Second)
		p.now("away", stats.Counts{Spooled: 400})
		f.set(slow(100 * time.Millisecond)) // the backlog takes 10 s, and as much for pauses
		time.Sleep(maxRetry + time.Second)
		back := time.Now()
		p.number(900, 4)
		time.Sleep(time.Second)
		synctest.Wait()
		at := slices.Index(f.names(), "00900")
		if at < 0 || at > 200 {
			t.Fatalf("the new span is number %d to arrive, of %d so far", at, len(f.names()))
		}
		if took := f.arrival(at).Sub(back); took > 300*time.Millisecond {
			t.Errorf("the new span took %v", took)
		}
		if rest := p.ledger.Counts().Spooled; rest < 100 {
			t.Errorf("%d spans are still in the spool: the endpoint was flooded", rest)
		}
		time.Sleep(30 * time.Second)
		p.now("after", stats.Counts{Exported: 404})
		p.shutdown(time.Second)
	})
}

func TestFlappingEndpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		f := &fakeClient{}
		f.set(func(ctx context.Context, names []string) error {
			if int(time.Since(begin).Seconds())%2 == 1 {
				return acknowledge(ctx, names)
			}
			return unavailable(ctx, names)
		})
		p := startSpooling(t, spooling(t, dir), f)
		const sent = 400
		for i := range sent {
			p.number(i, 1)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		p.now("after", stats.Counts{Exported: sent})
		got := f.names()
		slices.Sort(got)
		if !slices.Equal(got, numbers(0, sent)) {
			t.Errorf("%d spans arrived of %d", len(got), sent)
		}
		if n := strings.Count(p.log.String(), "level=WARN"); n > 4 {
			t.Errorf("%d warnings in less than two minutes:\n%s", n, p.log.String())
		}
		p.shutdown(time.Second)
	})
}

func TestAnswersToTheBacklog(t *testing.T) {
	for _, tc := range []struct {
		what   string
		answer func(context.Context, []string) error
		want   stats.Counts
	}{
		{"refused for good", reject, stats.Counts{RejectedByBackend: 8}},
		{"partial success", func(context.Context, []string) error {
			return &otlp.Failure{Kind: otlp.Partial, Rejected: 1, Reason: "too old"}
		}, stats.Counts{Exported: 6, RejectedByBackend: 2}},
		{"a rejection of more than there was", func(context.Context, []string) error {
			return &otlp.Failure{Kind: otlp.Partial, Rejected: 100, Reason: "too old"}
		}, stats.Counts{RejectedByBackend: 8}},
		{"slow", slow(5 * time.Second), stats.Counts{Exported: 8}},
		{"hangs", hang, stats.Counts{Spooled: 8}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
				p := startSpooling(t, cfg, f)
				p.number(0, 8)
				time.Sleep(5 * time.Second)
				p.now("away", stats.Counts{Spooled: 8})
				f.set(tc.answer)
				time.Sleep(time.Minute)
				p.now("after", tc.want)
				p.shutdown(5 * time.Second)
			})
		})
	}
}

func TestEndpointsWishForTheNextAttempt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	synctest.Test(t, func(t *testing.T) {
		f := &fakeClient{answer: func(context.Context, []string) error {
			return &otlp.Failure{Kind: otlp.Unavailable, Reason: "busy", RetryAfter: 20 * time.Second}
		}}
		p := startSpooling(t, spooling(t, dir), f)
		p.number(0, 1)
		time.Sleep(19 * time.Second)
		p.number(1, 1)
		time.Sleep(90 * time.Second)
		synctest.Wait()
		if n := len(f.requests); n < 4 || n > 6 {
			t.Errorf("%d requests in 109 s, asked for one in 20", n)
		}
		p.shutdown(time.Second)
	})
}

// A batch that the endpoint cannot take, and does not say so, must not keep
// all others from it.
func TestBatchThatNeverGetsThrough(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	synctest.Test(t, func(t *testing.T) {
		f := &fakeClient{answer: func(ctx context.Context, names []string) error {
			if slices.Contains(names, "00000") {
				return &otlp.Failure{Kind: otlp.Unavailable, Reached: true, Reason: "Unavailable: too much for me"}
			}
			return acknowledge(ctx, names)
		}}
		p := startSpooling(t, spooling(t, dir), f)
		p.number(0, 1)
		time.Sleep(time.Second)
		const minutes = 5
		for i := range minutes * 60 {
			p.number(1+i, 1)
			time.Sleep(time.Second)
		}
		time.Sleep(30 * time.Second)
		if got := p.ledger.Counts(); got.Exported < minutes*60-20 || got.Spooled == 0 || !got.Balanced() {
			t.Errorf("got %+v", got)
		}
		if n := strings.Count(p.log.String(), "level=WARN"); n > 2*(minutes+1) {
			t.Errorf("%d warnings in %d minutes", n, minutes)
		}
		p.shutdown(time.Second)
	})
}

func TestNextRunSendsWhatIsSpooled(t *testing.T) {
	withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		first := startSpooling(t, cfg, f)
		first.number(0, 10)
		if left := first.shutdown(5 * time.Second); left != 0 {
			t.Errorf("%d are left", left)
		}
		first.now("first", stats.Counts{Spooled: 10})

		second := startSpooling(t, cfg, f)
		time.Sleep(10 * time.Second)
		second.now("second, away", stats.Counts{Spooled: 10})
		if got := second.ledger.Counts(); got.Received != 10 || got.Accepted != 10 || second.ledger.Rate(time.Now()) != 0 {
			t.Errorf("found: %+v, %v a second", got, second.ledger.Rate(time.Now()))
		}
		second.number(10, 10)
		f.set(acknowledge)
		time.Sleep(10 * time.Second)
		second.now("second, back", stats.Counts{Exported: 20})
		got := f.names() // the backlog and what is new share the endpoint, in either order
		if old := slices.DeleteFunc(slices.Clone(got), func(name string) bool { return name >= "00010" }); !slices.Equal(old, numbers(0, 10)) {
			t.Errorf("of the first run arrived: %q", old)
		}
		slices.Sort(got)
		if !slices.Equal(got, numbers(0, 20)) {
			t.Errorf("arrived: %q", got)
		}
		second.shutdown(time.Second)
	})
}

// The end is limited by the time it gets, whatever the endpoint does, and
// nothing is lost over it.
func TestShutdownWithASpool(t *testing.T) {
	const patience = 5 * time.Second
	for _, tc := range []struct {
		what       string
		before, at func(context.Context, []string) error // before and at the end
		took       time.Duration                         // at most
		exported   int64                                 // at least
	}{
		{"healthy", acknowledge, acknowledge, 500 * time.Millisecond, 200},
		{"dead", acknowledge, unavailable, 500 * time.Millisecond, 100},
		{"dead for long", unavailable, unavailable, 500 * time.Millisecond, 0},
		{"back just then", unavailable, acknowledge, 500 * time.Millisecond, 0},
		{"hangs", acknowledge, hang, patience, 100},
		{"hangs for long", hang, hang, 500 * time.Millisecond, 0},
		{"slow", acknowledge, slow(time.Second), patience, 100 + 2*4},
		{"refuses", acknowledge, reject, 500 * time.Millisecond, 100},
	} {
		t.Run(tc.what, func(t *testing.T) {
			withSpool(t, tc.before, func(t *testing.T, cfg Config, f *fakeClient) {
				p := startSpooling(t, cfg, f)
				p.number(0, 100)
				time.Sleep(30 * time.Second)
				f.set(tc.at)
				p.number(100, 100)
				begin := time.Now()
				left := p.shutdown(patience)
				if took := time.Since(begin); took > tc.took {
					t.Errorf("took %v, more than %v", took, tc.took)
				}
				got := p.ledger.Counts()
				if !got.Balanced() || left != 0 || got.Pending != 0 || got.Exported < tc.exported {
					t.Errorf("%d left: %+v", left, got)
				}

				f.set(acknowledge)
				next := startSpooling(t, cfg, f)
				time.Sleep(time.Minute)
				next.now("next run", stats.Counts{Exported: got.Spooled})
				names := f.names()
				slices.Sort(names)
				if n := int64(len(names)); n != 200-got.RejectedByBackend || n != int64(len(slices.Compact(names))) {
					t.Errorf("%d spans arrived, %d different ones", n, len(slices.Compact(names)))
				}
				next.shutdown(time.Second)
			})
		})
	}
}

func TestSpoolGoesToTheNewEndpoint(t *testing.T) {
	withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
		p.number(0, 8)
		time.Sleep(30 * time.Second)
		off := cfg
		off.Endpoint = otlp.OffEndpoint
		if err := p.Connect(off); err != nil {
			t.Fatal(err)
		}
		p.policy.Store(policyOf(off))
		p.number(8, 2)
		time.Sleep(time.Minute)
		p.now("off", stats.Counts{Spooled: 8, Filtered: 2})
		other := &fakeClient{answer: acknowledge}
		p.connectTo(other)
		if err := p.Connect(cfg); err != nil {
			t.Fatal(err)
		}
		p.policy.Store(policyOf(cfg))
		time.Sleep(time.Second)
		p.now("new endpoint", stats.Counts{Exported: 8, Filtered: 2})
		if got := other.names(); !slices.Equal(got, numbers(0, 8)) {
			t.Errorf("got %q", got)
		}
		p.shutdown(time.Second)
	})
}

// While nothing is exported, no directory is made for what is never kept. It is made
// as soon as there is an endpoint.
func TestNoSpoolDirectoryWhileExportIsOff(t *testing.T) {
	withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		off := cfg
		off.Endpoint = otlp.OffEndpoint
		p := startSpooling(t, off, f)
		p.number(0, 2)
		time.Sleep(time.Minute)
		if _, err := os.Lstat(cfg.SpoolDir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("while it is off: %v", err)
		}
		if err := p.Connect(cfg); err != nil {
			t.Fatal(err)
		}
		p.policy.Store(policyOf(cfg))
		p.number(2, 8)
		time.Sleep(30 * time.Second)
		p.now("with an endpoint that is away", stats.Counts{Spooled: 8, Filtered: 2})
		p.shutdown(time.Second)
	})
}

func TestWithoutAUsableSpoolSpansWaitInMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := &fakeClient{answer: unavailable}
		p := startSpooling(t, spooling(t, file), f)
		p.number(0, 20)
		time.Sleep(time.Minute)
		p.now("away", stats.Counts{Pending: 20})
		if s := p.Spool(); s.Problem == nil || !strings.Contains(s.Problem.Error(), file) || s.Limit != 1<<20 {
			t.Errorf("the spool says %+v", s)
		}
		if n := strings.Count(p.log.String(), file); n != 1 {
			t.Errorf("logged %d times", n)
		}
		// Somebody mends it: then what waits goes there.
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * maxRetry)
		p.now("mended", stats.Counts{Spooled: 20})
		f.set(acknowledge)
		time.Sleep(2 * maxRetry)
		p.now("back", stats.Counts{Exported: 20})
		p.shutdown(time.Second)
	})
}

func TestFullSpoolIsCounted(t *testing.T) {
	withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		cfg.BatchSize = 100
		p := startSpooling(t, cfg, f)
		const batches, each = 60, 50
		for i := range batches {
			for n := range each {
				p.send(newSpan(uint64(i*each+n+1), fmt.Sprintf("%05d", i*each+n), "id", strings.Repeat("x", 2000)))
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		got := p.ledger.Counts()
		if !got.Balanced() || got.Pending != 0 || got.DroppedSpoolFull == 0 || got.Spooled+got.DroppedSpoolFull != batches*each {
			t.Errorf("got %+v", got)
		}
		if s := p.Spool(); s.Bytes > s.Limit || s.Bytes < s.Limit/2 {
			t.Errorf("%d bytes of %d", s.Bytes, s.Limit)
		}
		f.set(acknowledge)
		time.Sleep(30 * time.Second)
		names := f.names()
		want := numbers(batches*each-int(got.Spooled), int(got.Spooled))
		if !slices.Equal(names, want) {
			t.Errorf("%d spans arrived from %s to %s, want the newest %d", len(names), names[0], names[len(names)-1], len(want))
		}
		p.shutdown(time.Second)
	})
}

// An endpoint that takes less than what comes makes the spool the buffer, and
// one that hangs does not hold up what comes behind.
func TestBackPressureGoesToTheSpool(t *testing.T) {
	for _, tc := range []struct {
		what   string
		answer func(context.Context, []string) error
	}{
		{"slow", slow(time.Second)},
		{"hangs", hang},
	} {
		t.Run(tc.what, func(t *testing.T) {
			withSpool(t, tc.answer, func(t *testing.T, cfg Config, f *fakeClient) {
				cfg.QueueSize, cfg.BatchSize = 200, 20
				p := startSpooling(t, cfg, f)
				const sent = 3000
				for i := range sent { // 100 a second; the endpoint takes 20 or none
					p.number(i, 1)
					time.Sleep(10 * time.Millisecond)
				}
				synctest.Wait()
				if got := p.ledger.Counts(); got.DroppedQueueFull > 0 || got.Spooled == 0 || !got.Balanced() {
					t.Errorf("under load: %+v", got)
				}
				f.set(acknowledge)
				time.Sleep(time.Minute)
				p.now("after", stats.Counts{Exported: sent})
				got := f.names()
				slices.Sort(got)
				if !slices.Equal(got, numbers(0, sent)) {
					t.Errorf("%d spans arrived of %d", len(got), sent)
				}
				p.shutdown(time.Second)
			})
		})
	}
}

// The secrets that go with a request do not go to the disk with its spans.
func TestSpoolHoldsNoHeaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	const secret = "s3cret"
	cfg := spooling(t, dir)
	cfg.Headers = map[string]string{"authorization": secret}
	cfg.RedactTags = []string{"payment_hash"}
	p := newTestPipeline(t).start(cfg)
	p.SetNode(Node{})
	p.send(newSpan(1, "a", "payment_hash", secret))
	p.shutdown(5 * time.Second)
	p.want(stats.Counts{Spooled: 1})
	for _, name := range spoolFiles(t, dir) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(name+string(b), secret) || !strings.Contains(string(b), policy.Redacted) {
			t.Errorf("%s: %q", name, b)
		}
	}
}

// What is wrong with the sender or the place is an outage: somebody will correct it, and
// until then one batch is tried and the rest waits. Not a span is lost.
func TestEndpointThatRefusesTheSender(t *testing.T) {
	withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		p := startSpooling(t, cfg, f)
		p.number(0, 40)
		time.Sleep(2 * time.Minute)
		p.now("away", stats.Counts{Spooled: 40})
		f.set(func(context.Context, []string) error {
			return &otlp.Failure{Kind: otlp.Refusing, Reason: "HTTP 404 Not Found", Reached: true}
		})
		asked := len(f.requests)
		p.number(40, 40)
		time.Sleep(5 * time.Minute)
		p.now("refused", stats.Counts{Spooled: 80})
		report, since := p.Status()
		if report.State != StateRefusing || since.IsZero() || report.LastError != "HTTP 404 Not Found" {
			t.Errorf("got %+v, since %v", report, since)
		}
		if n := len(f.requests) - asked; n < 40 || n > 90 {
			t.Errorf("%d requests in five minutes", n)
		}
		if n := strings.Count(p.log.String(), "HTTP 404"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, p.log.String())
		}
		f.set(acknowledge)
		time.Sleep(time.Minute)
		p.now("corrected", stats.Counts{Exported: 80})
		p.shutdown(time.Second)
	})
}

// takesUpTo is an endpoint that takes requests of that many bytes.
func (f *fakeClient) takesUpTo(limit int) func(context.Context, []string) error {
	return func(_ context.Context, names []string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.size > limit {
			return &otlp.Failure{Kind: otlp.TooLarge, Reason: "HTTP 413 Request Entity Too Large", Reached: true}
		}
		return nil
	}
}

// A request that is too large for the endpoint is halved until it fits, and what comes
// later stays below what was refused. Only a span that is too large by itself is lost.
func TestTooLargeIsHalved(t *testing.T) {
	large := func(i int) *correlate.Span {
		return newSpan(uint64(i+1), fmt.Sprintf("%05d", i), "id", strings.Repeat("x", 1000))
	}
	for _, spooled := range []bool{false, true} {
		t.Run(fmt.Sprintf("spooled: %v", spooled), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			synctest.Test(t, func(t *testing.T) {
				f := new(fakeClient)
				f.set(f.takesUpTo(100 << 10))
				if spooled {
					f.set(unavailable)
				}
				cfg := spooling(t, dir)
				cfg.BatchSize, cfg.SpoolSize, cfg.QueueSize = 1000, 16, 4000
				p := startSpooling(t, cfg, f)
				for i := range 999 {
					p.send(large(i))
				}
				p.send(newSpan(1000, "too large", "id", strings.Repeat("x", 200<<10)))
				time.Sleep(10 * time.Second)
				if spooled {
					p.now("away", stats.Counts{Spooled: 1000})
					f.set(f.takesUpTo(100 << 10))
					time.Sleep(time.Minute)
				}
				p.now("halved", stats.Counts{Exported: 999, RejectedByBackend: 1})
				asked, arrived := len(f.requests), len(f.names())
				if asked > 80 {
					t.Errorf("%d requests for ten times too much", asked)
				}
				for i := range 1000 {
					p.send(large(1000 + i))
				}
				time.Sleep(10 * time.Second)
				p.now("later", stats.Counts{Exported: 1999, RejectedByBackend: 1})
				if n := len(f.requests) - asked; n > 40 || len(f.names())-arrived != 1000 {
					t.Errorf("%d later requests", n)
				}
				got := f.names()
				slices.Sort(got)
				if !slices.Equal(got, numbers(0, 999, 1000, 1000)) {
					t.Errorf("%d spans arrived", len(got))
				}
				if n := strings.Count(p.log.String(), "HTTP 413"); n != 1 {
					t.Errorf("logged %d times:\n%s", n, p.log.String())
				}
				p.shutdown(time.Second)
			})
		})
	}
}

// What of a batch of the spool was delivered before the endpoint went away is not sent
// again.
func TestPartsOfTheBacklogAreDelivered(t *testing.T) {
	withSpool(t, unavailable, func(t *testing.T, cfg Config, f *fakeClient) {
		cfg.BatchSize = 100
		p := startSpooling(t, cfg, f)
		p.number(0, 100)
		time.Sleep(10 * time.Second)
		p.now("away", stats.Counts{Spooled: 100})
		taken := 0
		f.set(func(ctx context.Context, names []string) error {
			switch {
			case len(names) > 30:
				return &otlp.Failure{Kind: otlp.TooLarge, Reason: "HTTP 413"}
			case taken == 2:
				return unavailable(ctx, names)
			}
			taken++
			return nil
		})
		time.Sleep(time.Minute)
		p.now("half of it", stats.Counts{Exported: 50, Spooled: 50})
		f.set(acknowledge)
		time.Sleep(time.Minute)
		p.now("all", stats.Counts{Exported: 100})
		if got := f.names(); !slices.Equal(got, numbers(0, 100)) {
			t.Errorf("arrived %q", got)
		}
		if left := spoolFiles(t, cfg.SpoolDir); len(left) != 0 {
			t.Errorf("left behind: %q", left)
		}
		p.shutdown(time.Second)
	})
}
