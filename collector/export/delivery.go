package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"clntrace/collector/defect"
	"clntrace/collector/spool"
	"clntrace/collector/stats"
	"clntrace/collector/text"
)

const (
	firstRetry = 500 * time.Millisecond
	maxRetry   = 5 * time.Second // how long it takes at most to notice that an endpoint is back
	// maxRetryAfter bounds the wait that a backend can ask for.
	maxRetryAfter = time.Minute
	// outageLogGap is the least time between two log lines of a kind, so that an
	// endpoint that comes and goes, or that gives a new reason for each refusal,
	// does not fill the log.
	outageLogGap = time.Minute
	// crowdCheck is how often a batch that waits checks whether memory is filling up
	// behind it.
	crowdCheck = 100 * time.Millisecond
)

// The states of an endpoint, as tracestats shows them.
const (
	StateOff         = "off"
	StateWaiting     = "waiting" // nothing has been sent yet
	StateConnected   = "connected"
	StateRefusing    = "refusing" // it refused the last batch for good
	StateUnreachable = "unreachable"
)

// noReason is the reason if an endpoint rejects spans without giving one.
const noReason = "it does not say why, perhaps its log does"

// errStopped is the end of deliveries whose time at shutdown is over.
var errStopped = errors.New("stopped before the endpoint took the spans")

// ledger is where spans are booked.
type ledger interface {
	Book(stats.Counts, time.Time)
	Inherit(spans int64)
}

// delivery is the OTLP client to which the SDK's exporter uploads. A batch that the
// endpoint has neither taken nor refused for good goes to the spool. If there is
// no usable spool, the batch waits in memory and is tried again.
type delivery struct {
	ledger  ledger
	log     *slog.Logger
	crowded func() bool                 // memory is filling up
	connect func(Config) (*link, error) // nil link: off
	stop    context.Context             // canceled: no further attempts

	spool   atomic.Pointer[spool.Spool] // nil: none
	backlog drainage
	slot    chan struct{}  // held by the one new batch that is being sent
	work    sync.WaitGroup // goroutines beside the SDK's processor
	left    atomic.Int64   // spans given up after UploadTraces had returned

	mu        sync.Mutex
	link      *link         // nil: off
	to        Config        // of link
	changed   chan struct{} // closed when link is replaced, and when an outage ends
	report    stats.Export
	since     time.Time // when the outage began; zero: there is none
	notBefore time.Time // when the endpoint wants the next attempt
	told      bool      // the outage has been logged
	toldAt    time.Time // when an outage was last logged
	refusal   string    // the last reason logged for a refusal
	refusalAt time.Time // when it was logged
	totalMS   float64
	took      *hdrhistogram.Histogram // µs, of acknowledged requests
}

var _ otlptrace.Client = (*delivery)(nil)

func newDelivery(stop context.Context, l ledger, log *slog.Logger, crowded func() bool) *delivery {
	const slowest = 10 * time.Minute
	return &delivery{
		ledger: l, log: log, crowded: crowded, connect: connect, stop: stop, changed: make(chan struct{}),
		backlog: newDrainage(stop), slot: make(chan struct{}, 1),
		took: hdrhistogram.New(1, slowest.Microseconds(), 2),
	}
}

// use makes cfg's endpoint the one for everything that follows, further attempts
// at the batch under way included. An error means that nothing has changed.
func (d *delivery) use(cfg Config) error {
	next, err := d.connect(cfg)
	if err != nil {
		return err
	}
	d.mu.Lock()
	last, changed, before := d.link, d.changed, d.to.Endpoint
	d.link, d.to, d.changed = next, cfg, make(chan struct{})
	d.since, d.notBefore, d.told = time.Time{}, time.Time{}, false
	d.report.Endpoint, d.report.Protocol = cfg.Endpoint.String(), string(cfg.Protocol)
	d.report.State, d.report.LastError, d.report.Refusal = StateWaiting, "", ""
	d.refusal, d.refusalAt = "", time.Time{} // log what the new endpoint refuses
	if cfg.Endpoint.Off() {
		d.report.State = StateOff
	}
	d.mu.Unlock()
	close(changed)
	if last != nil {
		go last.close(context.Background()) // after its request, which has a timeout
	}
	if cfg.Endpoint.PlaintextRemote() && cfg.Endpoint != before {
		d.log.Warn(fmt.Sprintf("spans go to %s unencrypted; use https:// unless you trust the network in between", cfg.Endpoint))
	}
	return nil
}

func (d *delivery) current() (*link, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link, d.changed
}

// Start does nothing: each link is started when it is made.
func (d *delivery) Start(context.Context) error { return nil }

// Stop closes the link, after everything under way has ended.
func (d *delivery) Stop(ctx context.Context) error {
	d.work.Wait() // ends when stop does
	if l, _ := d.current(); l != nil {
		l.close(ctx)
	}
	return nil
}

// UploadTraces delivers a batch and books its spans. When it returns the batch has
// been delivered or refused, is in the spool, or, if memory was filling up, is
// still being sent. The error is errStopped, or nil.
func (d *delivery) UploadTraces(_ context.Context, batch []*tracepb.ResourceSpans) error {
	spans := countSpans(batch)
	if kept := d.takeSlot(batch, spans); kept {
		return nil
	}
	ended := make(chan error, 1)
	d.work.Go(func() {
		err := d.upload(batch, spans)
		<-d.slot
		ended <- err
	})
	return d.await(ended, spans)
}

// takeSlot waits until no other new batch is being sent. While memory is filling up
// it does not wait, but puts the batch into the spool if it can, and returns true.
func (d *delivery) takeSlot(batch []*tracepb.ResourceSpans, spans int64) (kept bool) {
	for {
		select {
		case d.slot <- struct{}{}:
			return false
		default:
		}
		if (d.crowded() || d.stop.Err() != nil) && d.keep(batch, spans) {
			return true
		}
		select {
		case d.slot <- struct{}{}:
			return false
		case <-time.After(crowdCheck):
		}
	}
}

// await waits for an upload. If memory is filling up and the spool can take what
// comes, it does not wait any longer, and the upload goes on in the background.
func (d *delivery) await(ended <-chan error, spans int64) error {
	ticker := time.NewTicker(crowdCheck)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ticker.C:
		}
		if s := d.spool.Load(); s != nil && s.Status().Problem == nil && d.crowded() {
			d.work.Go(func() {
				if err := <-ended; err != nil {
					d.left.Add(spans)
				}
			})
			return nil
		}
	}
}

// upload tries a new batch until it has been delivered or is in the spool.
func (d *delivery) upload(batch []*tracepb.ResourceSpans, spans int64) error {
	wait := newBackOff()
	for tries := 0; ; tries++ {
		l, changed := d.current()
		if l == nil {
			d.ledger.Book(stats.Counts{Pending: -spans, Filtered: spans}, time.Now())
			return nil
		}
		if d.away() || d.stop.Err() != nil {
			if d.keep(batch, spans) {
				return nil
			}
			if tries > 0 {
				if !d.pause(d.stop, d.retryIn(wait), changed) {
					return errStopped
				}
				d.count(func(r *stats.Export) { r.Retries++ })
			}
		}
		result, err := d.try(d.stop, l, batch)
		if d.settle(d.stop, l, stats.Counts{Pending: -spans}, spans, result, err).final() {
			return nil
		}
	}
}

// keep puts a batch into the spool, and reports whether it could.
func (d *delivery) keep(batch []*tracepb.ResourceSpans, spans int64) (kept bool) {
	s := d.spool.Load()
	if s == nil {
		return false
	}
	defer func() {
		if found := defect.Of(recover()); found != nil {
			d.confess(found)
			kept = false
		}
	}()
	body, err := proto.Marshal(&coltracepb.ExportTraceServiceRequest{ResourceSpans: batch})
	return err == nil && s.Put(spans, body) == nil // Put logs why it cannot
}

func newBackOff() *backoff.ExponentialBackOff {
	b := &backoff.ExponentialBackOff{
		InitialInterval: firstRetry, MaxInterval: maxRetry,
		RandomizationFactor: backoff.DefaultRandomizationFactor, Multiplier: backoff.DefaultMultiplier,
	}
	b.Reset()
	return b
}

// away reports whether the last attempt found the endpoint unreachable.
func (d *delivery) away() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.since.IsZero()
}

// retryIn is how long to wait before the next attempt at an endpoint that is away:
// as long as wait says, or as the endpoint has asked for if that is longer.
func (d *delivery) retryIn(wait *backoff.ExponentialBackOff) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	// The back-off's jitter can exceed its own maximum.
	return max(min(wait.NextBackOff(), maxRetry), time.Until(d.notBefore))
}

// try sends a batch once. A panic on the way, in our code or in the SDK's, counts as
// a refusal for good, because the next attempt would end the same way.
func (d *delivery) try(ctx context.Context, l *link, batch []*tracepb.ResourceSpans) (result *attempt, err error) {
	ctx, result = withAttempt(ctx)
	defer func() {
		if found := defect.Of(recover()); found != nil {
			result.retryable, err = false, found
			result.message = found.Error()
		}
		result.message = Brief(result.message)
	}()
	start := time.Now()
	err = l.client.UploadTraces(ctx, batch)
	if result.acknowledged {
		d.timed(time.Since(start))
	}
	return result, err
}

// pause waits, but not longer than until there is another endpoint or the same one
// is back. It is not ok if ctx is done.
func (d *delivery) pause(ctx context.Context, wait time.Duration, changed <-chan struct{}) (ok bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-ctx.Done():
		return false
	}
	return true
}

// verdict is what the outcome of an attempt means for its batch.
type verdict int

const (
	taken    verdict = iota // the endpoint took it
	unwanted                // the endpoint refused it for good
	waiting                 // the endpoint is away
	// void means that the answer says nothing about the endpoint now in use, or that
	// there is no time left.
	void
)

// final reports whether the batch is booked and needs no further attempt.
func (v verdict) final() bool { return v == taken || v == unwanted }

// settle records what an attempt over l says about the endpoint, and books the
// batch if the verdict is final. ctx is the one that could end the attempt, and
// from the ledger entry that takes the spans from where they were.
func (d *delivery) settle(ctx context.Context, l *link, from stats.Counts, spans int64, result *attempt, err error) verdict {
	if result.message == "" && err != nil && !result.acknowledged {
		result.message = Brief(err.Error())
	}
	v, lines := d.note(ctx, l, spans, result)
	switch v {
	case taken:
		rejected := result.rejectedOf(spans)
		d.ledger.Book(from.Add(stats.Counts{Exported: spans - rejected, RejectedByBackend: rejected}), time.Now())
	case unwanted:
		d.ledger.Book(from.Add(stats.Counts{RejectedByBackend: spans}), time.Now())
	}
	for _, line := range lines {
		d.log.Warn(line)
	}
	return v
}

// note is the part of settle during which no other endpoint may come into use, or
// it would be blamed for what this one says. It returns the lines to log.
func (d *delivery) note(ctx context.Context, l *link, spans int64, result *attempt) (v verdict, lines []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, inUse := time.Now(), d.link == l
	switch {
	case result.acknowledged:
		success := now.UTC().Truncate(time.Second)
		d.report.LastSuccess = &success
		d.report.Batches++
		if inUse {
			lines = d.noteTaken(spans, result, now)
		}
		return taken, lines
	case !inUse, ctx.Err() != nil:
		return void, nil
	case !result.retryable:
		d.report.State = StateRefusing
		d.recovered() // a refusal is an answer, too
		return unwanted, d.complain(fmt.Sprintf("%s refused a batch of %s for good", d.report.Endpoint, text.Number(spans, "span", "spans")), spans, result.message, now)
	}
	return waiting, d.unreachable(result, now)
}

// noteTaken records that the endpoint in use took a batch, or a part of it. The
// caller holds d.mu.
func (d *delivery) noteTaken(spans int64, result *attempt, now time.Time) (lines []string) {
	d.report.State = StateConnected
	if d.recovered() {
		lines = append(lines, d.report.Endpoint+" takes spans again")
	}
	if rejected := result.rejectedOf(spans); rejected > 0 || result.message != "" {
		reason := cmp.Or(result.message, noReason)
		what := fmt.Sprintf("%s took a batch of %s", d.report.Endpoint, text.Number(spans, "span", "spans"))
		if rejected > 0 {
			what += fmt.Sprintf(" but rejected %d of them", rejected)
		} else {
			what += " and remarked"
		}
		lines = append(lines, d.complain(what, rejected, reason, now)...)
	}
	return lines
}

// complain records a reason, and that spans were lost for it if any were. It
// returns the line to log, what followed by the reason, unless that reason was the
// last one logged or another was logged less than outageLogGap ago. The caller
// holds d.mu.
func (d *delivery) complain(what string, lost int64, reason string, now time.Time) (lines []string) {
	d.report.LastError = reason
	if lost > 0 {
		d.report.Refusal = reason
	}
	if d.refusal == reason || !d.refusalAt.IsZero() && now.Sub(d.refusalAt) <= outageLogGap {
		return nil
	}
	d.refusal, d.refusalAt = reason, now
	note := " (logged once)"
	if lost > 0 {
		note = " (logged once; tracestats counts the rest as rejected_by_backend)"
	}
	return []string{what + ": " + d.to.ExplainRefusal(reason) + note}
}

// confess reports a panic that costs no span.
func (d *delivery) confess(found error) { d.lose(0, found) }

// lose books spans that cannot be delivered because of a panic, and reports it.
func (d *delivery) lose(spans int64, found error) {
	what := "exporting"
	if spans > 0 {
		what += ", " + text.Number(spans, "span is lost", "spans are lost")
	}
	d.mu.Lock()
	lines := d.complain(what, spans, Brief(found.Error()), time.Now())
	d.mu.Unlock()
	d.ledger.Book(stats.Counts{Pending: -spans, RejectedByBackend: spans}, time.Now())
	for _, line := range lines {
		d.log.Error(line)
	}
}

// unreachable records that the endpoint is away. The caller holds d.mu.
func (d *delivery) unreachable(result *attempt, now time.Time) (lines []string) {
	if d.since.IsZero() {
		d.since = now
	}
	d.notBefore = now.Add(min(result.retryAfter, maxRetryAfter))
	d.report.State, d.report.LastError = StateUnreachable, result.message
	if d.told || !d.toldAt.IsZero() && now.Sub(d.toldAt) <= outageLogGap {
		return nil
	}
	d.told, d.toldAt = true, now
	return []string{fmt.Sprintf("%s does not take spans, they wait: %s", d.report.Endpoint, d.to.ExplainOutage(result.message))}
}

// recovered ends an outage, if there is one, and reports whether its end should be
// logged. The caller holds d.mu.
func (d *delivery) recovered() (tell bool) {
	if d.since.IsZero() {
		return false
	}
	tell = d.told
	d.since, d.told = time.Time{}, false
	close(d.changed)
	d.changed = make(chan struct{})
	return tell
}

func (d *delivery) count(update func(*stats.Export)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	update(&d.report)
}

func (d *delivery) timed(took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.took.RecordValue(min(took.Microseconds(), d.took.HighestTrackableValue())) // cannot fail within its range
	d.totalMS += took.Seconds() * 1000
}

// status returns the state of the endpoint, and since when it has been unreachable;
// zero if it is not.
func (d *delivery) status() (stats.Export, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.report
	if n := d.took.TotalCount(); n > 0 {
		r.AvgMS = d.totalMS / float64(n)
		r.P99MS = float64(d.took.ValueAtQuantile(99)) / 1000
	}
	return r, d.since
}

func countSpans(batch []*tracepb.ResourceSpans) (n int64) {
	for _, r := range batch {
		for _, s := range r.GetScopeSpans() {
			n += int64(len(s.GetSpans()))
		}
	}
	return n
}
