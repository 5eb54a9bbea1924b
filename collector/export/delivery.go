package export

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"clntrace/collector/defect"
	"clntrace/collector/otlp"
	"clntrace/collector/policy"
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

// ledger is where spans are booked.
type ledger interface {
	Book(stats.Counts, time.Time)
	Inherit(spans int64)
}

// delivery is where the exporter brings its requests. A batch that the endpoint has
// neither taken nor refused for good goes to the spool. If there is no usable spool, the
// batch waits in memory and is tried again.
type delivery struct {
	ledger      ledger
	log         *slog.Logger
	policy      func() *policy.Policy              // what of spans may be shown now
	memoryShort func() bool                        // memory is filling up
	connect     func(otlp.Config) (*client, error) // nil client: off
	stop        context.Context                    // canceled: no further attempts

	endpoint *endpointHealth

	spool   atomic.Pointer[spool.Spool] // nil: none
	backlog draining
	// interrupt ends the last attempt of the backlog; nil: there was none
	interrupt atomic.Pointer[context.CancelFunc]
	slot      chan struct{}  // held by the one new batch that is being sent
	work      sync.WaitGroup // goroutines beside the SDK's processor
	left      atomic.Int64   // spans given up when the time at shutdown was over
}

func newDelivery(stop context.Context, o Options) *delivery {
	return &delivery{
		ledger: o.Ledger, log: o.Logger, policy: o.Policy, memoryShort: o.Room.HalfFull, connect: connect, stop: stop,
		endpoint: newEndpointHealth(o.Voice), backlog: newDraining(stop), slot: make(chan struct{}, 1),
	}
}

// use makes cfg's endpoint the one for everything that follows, further attempts
// at the batch under way included. An error means that nothing has changed.
func (d *delivery) use(cfg otlp.Config) error {
	next, err := d.connect(cfg)
	if err != nil {
		return err
	}
	before := d.endpoint.replace(next, cfg)
	if cfg.Endpoint.PlaintextRemote() && cfg.Endpoint != before {
		d.log.Warn(fmt.Sprintf("spans go to %s unencrypted; use https:// unless you trust the network in between", cfg.Endpoint))
	}
	return nil
}

// Stop closes all clients, after everything under way has ended. It returns the error
// of ctx if that is done first.
func (d *delivery) Stop(ctx context.Context) error {
	d.work.Wait() // ends when stop does
	return d.endpoint.link.Close(ctx)
}

// dispatch delivers a batch, which was described by the policy shown, and books its spans. When it returns the batch has been
// delivered or rejected, is in the spool, has been given up at shutdown, or, if memory
// was filling up, is still being sent. It calls done when it does not need the batch any
// more.
func (d *delivery) dispatch(batch []*tracepb.ResourceSpans, shown *policy.Policy, done func()) {
	spans := countSpans(batch)
	if kept := d.takeSlot(batch, spans); kept {
		done()
		return
	}
	ended := make(chan struct{})
	d.work.Go(func() {
		defer close(ended)
		d.left.Add(d.upload(batch, shown, spans))
		<-d.slot
		done()
	})
	d.await(ended)
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
		if (d.memoryShort() || d.stop.Err() != nil) && d.keep(batch, spans) {
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
func (d *delivery) await(ended <-chan struct{}) {
	ticker := time.NewTicker(crowdCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
		}
		if s := d.spool.Load(); s != nil && s.Status().Problem == nil && d.memoryShort() {
			return
		}
	}
}

// upload tries a new batch until it has been delivered or is in the spool. If it is too
// large for the endpoint, its halves are uploaded. It returns how many spans have been
// given up because there is no time left.
func (d *delivery) upload(batch []*tracepb.ResourceSpans, shown *policy.Policy, spans int64) (left int64) {
	wait := newBackOff()
	for tries := 0; ; tries++ {
		c, changed := d.endpoint.link.Current()
		if c == nil {
			d.ledger.Book(stats.Counts{Pending: -spans, Filtered: spans}, time.Now())
			return 0
		}
		if d.endpoint.away() || d.stop.Err() != nil {
			if d.keep(batch, spans) {
				return 0
			}
			if tries > 0 {
				if !d.pause(d.stop, d.retryIn(wait), changed) {
					return spans
				}
				d.endpoint.noteRetry()
			}
		}
		if p := d.policy(); p != shown {
			shown = p
			if batch, spans = d.describeAnew(batch, spans, p); spans == 0 {
				return 0
			}
		}
		failure := d.try(d.stop, c, batch)
		switch v := d.book(d.stop, c, stats.Counts{Pending: -spans}, batch, spans, failure); {
		case v.final():
			return 0
		case v == tooLarge:
			first, second := halve(batch, spans)
			return d.upload(first, shown, spans/2) + d.upload(second, shown, spans-spans/2)
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
		d.report(found)
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

// try sends a batch once, and returns why it was not taken, or not all of it; nil: it
// was. A panic on the way, in our code or in the SDK's, rejects it, because the next
// attempt would end the same way.
func (d *delivery) try(ctx context.Context, c *client, batch []*tracepb.ResourceSpans) (failure *otlp.Failure) {
	defer defect.Catch(func(found error) { failure = failureOf(found) })
	start := time.Now()
	failure = otlp.FailureOf(c.UploadTraces(ctx, batch))
	if failure == nil || failure.Kind == otlp.Partial {
		d.endpoint.noteTime(time.Since(start))
	}
	return failure
}

// failureOf is a defect of ours in the form of a failure.
func failureOf(found error) *otlp.Failure {
	return &otlp.Failure{Kind: otlp.Rejected, Reason: text.Brief(found.Error()), Complete: true}
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

// book records what an attempt over c says about the endpoint, and books the batch if
// the verdict is final. ctx is the one that could end the attempt, and from the ledger
// entry that takes the spans from where they were.
func (d *delivery) book(ctx context.Context, c *client, from stats.Counts, batch []*tracepb.ResourceSpans, spans int64, failure *otlp.Failure) verdict {
	var size int
	if failure != nil && failure.Kind == otlp.TooLarge {
		size = requestBytes(batch)
	}
	v, lines := d.endpoint.note(ctx, c, spans, size, failure)
	if v.final() {
		rejected := failure.RejectedOf(spans)
		d.ledger.Book(from.Add(stats.Counts{Exported: spans - rejected, RejectedByBackend: rejected}), time.Now())
	}
	for _, line := range lines {
		d.log.Warn(line)
	}
	return v
}

// report reports a panic that costs no span.
func (d *delivery) report(found error) { d.reject(0, found) }

// reject books spans that cannot be delivered because of a panic, and reports it.
func (d *delivery) reject(spans int64, found error) {
	lines := d.endpoint.noteDefect(spans, found)
	d.ledger.Book(stats.Counts{Pending: -spans, RejectedByBackend: spans}, time.Now())
	for _, line := range lines {
		d.log.Error(line)
	}
}

// requestBytes is the size of a batch as a request.
func requestBytes(batch []*tracepb.ResourceSpans) int {
	return proto.Size(&coltracepb.ExportTraceServiceRequest{ResourceSpans: batch})
}

// halve divides a batch of that many spans into two, of spans/2 and the rest.
func halve(batch []*tracepb.ResourceSpans, spans int64) (first, second []*tracepb.ResourceSpans) {
	room := int(spans / 2)
	for _, r := range batch {
		a := &tracepb.ResourceSpans{Resource: r.GetResource(), SchemaUrl: r.GetSchemaUrl()}
		b := &tracepb.ResourceSpans{Resource: r.GetResource(), SchemaUrl: r.GetSchemaUrl()}
		for _, s := range r.GetScopeSpans() {
			n := min(room, len(s.GetSpans()))
			room -= n
			addSpans(a, s, s.GetSpans()[:n])
			addSpans(b, s, s.GetSpans()[n:])
		}
		if len(a.GetScopeSpans()) > 0 {
			first = append(first, a)
		}
		if len(b.GetScopeSpans()) > 0 {
			second = append(second, b)
		}
	}
	return first, second
}

// addSpans adds some of the spans of a scope to r, if there are any.
func addSpans(r *tracepb.ResourceSpans, scope *tracepb.ScopeSpans, spans []*tracepb.Span) {
	if len(spans) > 0 {
		r.ScopeSpans = append(r.ScopeSpans, &tracepb.ScopeSpans{Scope: scope.GetScope(), SchemaUrl: scope.GetSchemaUrl(), Spans: spans})
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
