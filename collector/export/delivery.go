package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

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
	// crowdCheck is how often a batch that waits checks whether memory is filling up
	// behind it.
	crowdCheck = 100 * time.Millisecond
)

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

	endpoint *endpointHealth

	// mu keeps use and Stop apart: a link that came into use after Stop would stay
	// open. The lock of endpoint is taken while it is held, never the other way round.
	mu      sync.Mutex
	stopped bool
	closing sync.WaitGroup // links that are being closed

	spool   atomic.Pointer[spool.Spool] // nil: none
	backlog drainage
	slot    chan struct{}  // held by the one new batch that is being sent
	work    sync.WaitGroup // goroutines beside the SDK's processor
	left    atomic.Int64   // spans given up after UploadTraces had returned
}

var _ otlptrace.Client = (*delivery)(nil)

func newDelivery(stop context.Context, l ledger, log *slog.Logger, crowded func() bool) *delivery {
	return &delivery{
		ledger: l, log: log, crowded: crowded, connect: connect, stop: stop,
		endpoint: newEndpointHealth(), backlog: newDrainage(stop), slot: make(chan struct{}, 1),
	}
}

// use makes cfg's endpoint the one for everything that follows, further attempts
// at the batch under way included. An error means that nothing has changed.
func (d *delivery) use(cfg Config) error {
	before, err := d.replaceLink(cfg)
	if err == nil && cfg.Endpoint.PlaintextRemote() && cfg.Endpoint != before {
		d.log.Warn(fmt.Sprintf("spans go to %s unencrypted; use https:// unless you trust the network in between", cfg.Endpoint))
	}
	return err
}

// replaceLink is the part of use that must not overlap with Stop. It returns the
// endpoint that was in use before.
func (d *delivery) replaceLink(cfg Config) (before Endpoint, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return cfg.Endpoint, nil // nothing is sent any more
	}
	next, err := d.connect(cfg)
	if err != nil {
		return Endpoint{}, err
	}
	last, before := d.endpoint.replace(next, cfg)
	if last != nil {
		d.closing.Go(func() { last.close(context.Background()) }) // after its request, which has a timeout
	}
	return before, nil
}

// Start does nothing: each link is started when it is made.
func (d *delivery) Start(context.Context) error { return nil }

// Stop closes all links, after everything under way has ended. It returns the error
// of ctx if that is done first.
func (d *delivery) Stop(ctx context.Context) error {
	d.work.Wait() // ends when stop does
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	if l, _ := d.endpoint.current(); l != nil {
		d.closing.Go(func() { l.close(ctx) })
	}
	return Await(ctx, &d.closing)
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
		l, changed := d.endpoint.current()
		if l == nil {
			d.ledger.Book(stats.Counts{Pending: -spans, Filtered: spans}, time.Now())
			return nil
		}
		if d.endpoint.away() || d.stop.Err() != nil {
			if d.keep(batch, spans) {
				return nil
			}
			if tries > 0 {
				if !d.pause(d.stop, d.retryIn(wait), changed) {
					return errStopped
				}
				d.endpoint.noteRetry()
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
	defer defect.Catch(func(found error) {
		d.confess(found)
		kept = false
	})
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

// retryIn is how long to wait before the next attempt at an endpoint that is away:
// as long as wait says, or as the endpoint has asked for if that is longer.
func (d *delivery) retryIn(wait *backoff.ExponentialBackOff) time.Duration {
	// The back-off's jitter can exceed its own maximum.
	return max(min(wait.NextBackOff(), maxRetry), d.endpoint.askedToWait())
}

// try sends a batch once. A panic on the way, in our code or in the SDK's, counts as
// a refusal for good, because the next attempt would end the same way.
func (d *delivery) try(ctx context.Context, l *link, batch []*tracepb.ResourceSpans) (result *attempt, err error) {
	ctx, result = withAttempt(ctx)
	defer func() { result.message = text.Brief(result.message) }()
	defer defect.Catch(func(found error) {
		result.retryable, err = false, found
		result.message = found.Error()
	})
	start := time.Now()
	err = l.client.UploadTraces(ctx, batch)
	if result.acknowledged {
		d.endpoint.noteTime(time.Since(start))
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

// settle records what an attempt over l says about the endpoint, and books the
// batch if the verdict is final. ctx is the one that could end the attempt, and
// from the ledger entry that takes the spans from where they were.
func (d *delivery) settle(ctx context.Context, l *link, from stats.Counts, spans int64, result *attempt, err error) verdict {
	if result.message == "" && err != nil && !result.acknowledged {
		result.message = text.Brief(err.Error())
	}
	v, lines := d.endpoint.note(ctx, l, spans, result)
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

// confess reports a panic that costs no span.
func (d *delivery) confess(found error) { d.lose(0, found) }

// lose books spans that cannot be delivered because of a panic, and reports it.
func (d *delivery) lose(spans int64, found error) {
	lines := d.endpoint.noteDefect(spans, found)
	d.ledger.Book(stats.Counts{Pending: -spans, RejectedByBackend: spans}, time.Now())
	for _, line := range lines {
		d.log.Error(line)
	}
}

func countSpans(batch []*tracepb.ResourceSpans) (n int64) {
	for _, r := range batch {
		for _, s := range r.GetScopeSpans() {
			n += int64(len(s.GetSpans()))
		}
	}
	return n
}
