package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"clntrace/collector/stats"
)

const (
	firstRetry = 500 * time.Millisecond
	maxRetry   = 5 * time.Second // an endpoint that is back is noticed within this
	// maxRetryAfter bounds the wait that a backend can ask for.
	maxRetryAfter = time.Minute
)

// The states of an endpoint, as tracestats shows them.
const (
	StateOff         = "off"
	StateWaiting     = "waiting" // nothing has been sent yet
	StateConnected   = "connected"
	StateUnreachable = "unreachable"
)

// errStopped ends deliveries when their time at shutdown is over.
var errStopped = errors.New("stopped before the endpoint took the spans")

// ledger is where spans are booked.
type ledger interface {
	Book(stats.Counts, time.Time)
}

// delivery is the OTLP client that the SDK's exporter uploads to. It tries a
// batch until the endpoint has taken or refused it for good.
type delivery struct {
	ledger ledger
	log    *slog.Logger
	stop   context.Context // canceled: no further attempts

	mu      sync.Mutex
	link    *link         // nil: off
	changed chan struct{} // closed when link is replaced
	report  stats.Export
	since   time.Time // of the outage; zero: none
	refusal string    // the last reason logged for a refusal
	totalMS float64
	took    *hdrhistogram.Histogram // ms, of acknowledged requests
}

var _ otlptrace.Client = (*delivery)(nil)

func newDelivery(stop context.Context, l ledger, log *slog.Logger) *delivery {
	const slowest = 10 * time.Minute
	return &delivery{
		ledger: l, log: log, stop: stop, changed: make(chan struct{}),
		took: hdrhistogram.New(1, slowest.Microseconds(), 2),
	}
}

// use sends what follows, the batch under way included, to cfg's endpoint.
func (d *delivery) use(cfg Config) error {
	next, err := connect(cfg)
	if err != nil {
		return err
	}
	d.mu.Lock()
	last, changed := d.link, d.changed
	d.link, d.changed, d.since = next, make(chan struct{}), time.Time{}
	d.report.Endpoint, d.report.Protocol = cfg.Endpoint.String(), string(cfg.Protocol)
	d.report.State, d.report.LastError = StateWaiting, ""
	if cfg.Endpoint.Off() {
		d.report.State = StateOff
	}
	d.mu.Unlock()
	close(changed)
	if last != nil {
		go last.close(context.Background()) // after its request, which has a timeout
	}
	if cfg.Endpoint.PlaintextRemote() {
		d.log.Warn(fmt.Sprintf("spans go to %s unencrypted; use https:// if the network between is not yours", cfg.Endpoint))
	}
	return nil
}

func (d *delivery) current() (*link, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link, d.changed
}

// Start does nothing: links are started as they come.
func (d *delivery) Start(context.Context) error { return nil }

// Stop closes the link.
func (d *delivery) Stop(ctx context.Context) error {
	if l, _ := d.current(); l != nil {
		l.close(ctx)
	}
	return nil
}

// UploadTraces delivers a batch and books where its spans ended. The error is
// errStopped, or nil.
func (d *delivery) UploadTraces(_ context.Context, batch []*tracepb.ResourceSpans) error {
	spans := countSpans(batch)
	wait := backoff.ExponentialBackOff{
		InitialInterval: firstRetry, MaxInterval: maxRetry,
		RandomizationFactor: backoff.DefaultRandomizationFactor, Multiplier: backoff.DefaultMultiplier,
	}
	wait.Reset()
	for {
		l, changed := d.current()
		if l == nil {
			d.ledger.Book(stats.Counts{Pending: -spans, Filtered: spans}, time.Now())
			return nil
		}
		result, err := d.try(l, batch)
		switch {
		case result.message == "" && !result.acknowledged && d.replaced(l):
			continue // closed between our look and our request
		case d.stop.Err() != nil && !result.acknowledged:
			return errStopped
		case result.acknowledged:
			d.delivered(spans, result)
			return nil
		case !result.retryable:
			d.refused(spans, result, err)
			return nil
		}
		d.unreachable(result)
		if !d.pause(max(wait.NextBackOff(), min(result.retryAfter, maxRetryAfter)), changed) {
			return errStopped
		}
		d.count(func(r *stats.Export) { r.Retries++ })
	}
}

func (d *delivery) try(l *link, batch []*tracepb.ResourceSpans) (*attempt, error) {
	ctx, result := withAttempt(d.stop)
	start := time.Now()
	err := l.client.UploadTraces(ctx, batch)
	if result.acknowledged {
		d.timed(time.Since(start))
	}
	return result, err
}

func (d *delivery) replaced(l *link) bool {
	now, _ := d.current()
	return now != l
}

// pause waits, and ends early when there is another endpoint to try.
func (d *delivery) pause(wait time.Duration, changed <-chan struct{}) (ok bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-d.stop.Done():
		return false
	}
	return true
}

func (d *delivery) delivered(spans int64, result *attempt) {
	rejected := min(max(result.rejected, 0), spans)
	d.ledger.Book(stats.Counts{Pending: -spans, Exported: spans - rejected, RejectedByBackend: rejected}, time.Now())
	d.count(func(r *stats.Export) {
		now := time.Now().UTC().Truncate(time.Second)
		r.State, r.LastSuccess = StateConnected, &now
		r.Batches++
	})
	if d.recovered() {
		d.log.Warn(d.endpoint() + " takes spans again")
	}
	if rejected > 0 || result.message != "" {
		d.complain(fmt.Sprintf("%s took a batch of %d spans but rejected %d of them: %s", d.endpoint(), spans, rejected, result.message), result.message)
	}
}

func (d *delivery) refused(spans int64, result *attempt, err error) {
	d.ledger.Book(stats.Counts{Pending: -spans, RejectedByBackend: spans}, time.Now())
	reason := result.message
	if reason == "" {
		reason = fmt.Sprint(err)
	}
	d.count(func(r *stats.Export) { r.State = StateConnected })
	d.recovered()
	d.complain(fmt.Sprintf("%s refused a batch of %d spans for good: %s", d.endpoint(), spans, reason), reason)
}

func (d *delivery) endpoint() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.report.Endpoint
}

// complain notes a refusal, and logs it unless it is the one logged last.
func (d *delivery) complain(line, reason string) {
	d.mu.Lock()
	d.report.LastError = reason
	known := d.refusal == reason
	d.refusal = reason
	d.mu.Unlock()
	if !known {
		d.log.Warn(line + " (logged once; tracestats counts the rest as rejected_by_backend)")
	}
}

func (d *delivery) unreachable(result *attempt) {
	d.mu.Lock()
	first := d.since.IsZero()
	if first {
		d.since = time.Now()
	}
	d.report.State, d.report.LastError = StateUnreachable, result.message
	d.mu.Unlock()
	if first {
		d.log.Warn(fmt.Sprintf("%s does not take spans, they wait: %s", d.endpoint(), result.message))
	}
}

// recovered ends an outage and tells whether there was one.
func (d *delivery) recovered() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := !d.since.IsZero()
	d.since = time.Time{}
	return was
}

func (d *delivery) count(update func(*stats.Export)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	update(&d.report)
}

func (d *delivery) timed(took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.took.RecordValue(min(took.Microseconds(), d.took.HighestTrackableValue())) // in range, then it cannot fail
	d.totalMS += took.Seconds() * 1000
}

// status returns the state of the endpoint and since when it is unreachable.
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
