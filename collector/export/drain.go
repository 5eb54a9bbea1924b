package export

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"clntrace/collector/defect"
	"clntrace/collector/otlp"
	"clntrace/collector/spool"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

const (
	// drainRate bounds the load that the backlog puts on an endpoint that has just
	// come back: 64 MiB take 16 s.
	drainRate = 4 << 20 // bytes a second
	// drainGap is the shortest pause between two batches of the backlog. The pause
	// is also at least as long as the last batch took, so that half of a slow
	// endpoint's time is left for others.
	drainGap = 10 * time.Millisecond
	// spoolCheck is how often opening a spool is tried again. Its last owner may
	// need up to 5 s to end.
	spoolCheck = 2 * time.Second
	// maxFileSpans bounds what is combined to one batch of the backlog: read, it takes
	// up to ten times the memory that it takes on disk.
	maxFileSpans = 2048
	// maxInARow is how often one batch is sent in vain, to an endpoint that can be
	// reached, before others are tried in between: that batch may be the problem.
	maxInARow = 10
)

// draining holds the contexts that end the draining of the spool.
type draining struct {
	ending context.Context // done: take no further batch
	end    context.CancelFunc
	trying context.Context // done: give up the attempt under way
	giveUp context.CancelFunc
}

func newDraining(stop context.Context) (b draining) {
	b.ending, b.end = context.WithCancel(stop)
	b.trying, b.giveUp = context.WithCancel(stop)
	return b
}

// openSpool begins to use the spool of cfg and to drain what is in it.
func (d *delivery) openSpool(cfg Config, v voice.Voice) {
	if cfg.SpoolSize <= 0 {
		return
	}
	dir := cfg.SpoolDir
	if dir == "" {
		dir = DefaultSpoolDir
	}
	const mib = 1 << 20
	s := spool.New(spool.Config{
		Dir: dir, Limit: int64(cfg.SpoolSize) * mib,
		FileSpans: int64(min(cfg.BatchSize, maxFileSpans)), FileBytes: maxRequestBytes,
		Voice: v,
	}, d.log, d.spoolChanged)
	d.spool.Store(s)
	d.work.Go(func() { d.drain(s) })
}

// spoolChanged books what happens in the spool. Spans whose file somebody else has
// removed count as dropped, like those that a full spool drops.
func (d *delivery) spoolChanged(c spool.Change) {
	if c.Found > 0 {
		d.ledger.Inherit(c.Found)
	}
	if c.Stored > 0 || c.Dropped > 0 {
		d.ledger.Book(stats.Counts{
			Pending: -c.Stored, Spooled: c.Stored - c.Dropped, DroppedSpoolFull: c.Dropped,
		}, time.Now())
	}
}

// endDrain leaves the rest of the spool to the next run. The attempt under way may
// end by itself, unless the endpoint is away.
func (d *delivery) endDrain() {
	d.backlog.end()
	if d.endpoint.away() {
		d.backlog.giveUp()
	}
}

func (d *delivery) closeSpool() {
	if s := d.spool.Load(); s != nil {
		s.Close()
	}
}

// drain sends what is in the spool, until endDrain. While the endpoint is away only
// drain tries whether it is back.
func (d *delivery) drain(s *spool.Spool) {
	wait := newBackOff()
	for d.backlog.ending.Err() == nil {
		if found := d.drainSome(s, wait); found != nil {
			d.report(found)
			d.pause(d.backlog.ending, spoolCheck, nil)
		}
	}
}

// drainSome sends the next batch, or waits until there may be one. An error means
// that it panicked.
func (d *delivery) drainSome(s *spool.Spool, wait *backoff.ExponentialBackOff) (found error) {
	defer defect.Catch(func(panicked error) { found = panicked })
	c, changed := d.endpoint.link.Current()
	if c != nil || s.Exists() { // while nothing is exported, nothing has to be kept
		_ = s.Open() // its Status says what is wrong
	}
	for d.backlog.ending.Err() == nil && s.LookInto() {
	}
	away := d.endpoint.away()
	if !away {
		wait.Reset()
	} else if !d.pause(d.backlog.ending, d.retryIn(wait), changed) || !d.endpoint.away() {
		return nil
	}
	var b *spool.Batch
	if now, _ := d.endpoint.link.Current(); c != nil && now == c {
		b = take(s, away)
	}
	if b == nil {
		d.idle(s, changed)
		return nil
	}
	d.pause(d.backlog.ending, d.deliver(s, c, b), nil)
	return nil
}

// take takes the oldest batch, or every other time the next one if the oldest has
// been sent in vain too often.
func take(s *spool.Spool, away bool) *spool.Batch {
	b := s.Next(0)
	if b != nil && away && b.Attempts >= maxInARow && b.Attempts%2 == 1 {
		s.Release(b, true)
		b = s.Next(1)
	}
	return b
}

// idle waits until there may be something to do.
func (d *delivery) idle(s *spool.Spool, changed <-chan struct{}) {
	timer := time.NewTimer(spoolCheck)
	defer timer.Stop()
	select {
	case <-s.Ready():
	case <-changed:
	case <-timer.C:
	case <-d.backlog.ending.Done():
	}
}

// deliver sends a batch of the spool, and returns how long to wait before the next
// one.
func (d *delivery) deliver(s *spool.Spool, c *client, b *spool.Batch) time.Duration {
	var request coltracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(b.Body, &request); err != nil {
		s.Spoil(b, fmt.Errorf("reading its spans: %w", err))
		return 0
	}
	away, start, size := d.endpoint.away(), time.Now(), len(b.Body)
	if away {
		d.endpoint.noteRetry()
	}
	trying, interrupt := context.WithCancel(d.backlog.trying)
	defer interrupt()
	d.interrupt.Store(&interrupt) // before the policy is read
	left, failure := d.redact(request.GetResourceSpans()), (*otlp.Failure)(nil)
	if len(left) > 0 {
		left, failure = d.sendParts(trying, c, left)
	}
	if len(left) == 0 {
		s.Done(b)
		atRate := time.Duration(size) * time.Second / drainRate
		return max(time.Since(start), atRate, drainGap)
	}
	if countSpans(left) < b.Spans {
		shrink(s, b, left)
	}
	if failure != nil && !away && b.Attempts >= maxInARow {
		s.Postpone(b) // the endpoint takes others, but not this one
	} else {
		s.Release(b, failure != nil && failure.Reached)
	}
	return 0
}

// sendParts sends a batch of the spool over c, in parts if it is too large for the
// endpoint. It returns what is left of it, and why it has to wait; nil: only for
// another endpoint or policy, or for the next run.
func (d *delivery) sendParts(ctx context.Context, c *client, batch []*tracepb.ResourceSpans) (left []*tracepb.ResourceSpans, failure *otlp.Failure) {
	parts := [][]*tracepb.ResourceSpans{batch}
	for len(parts) > 0 && (len(parts) == 1 || d.backlog.ending.Err() == nil) {
		part := parts[0]
		spans := countSpans(part)
		if spans > 1 && requestBytes(part) > d.endpoint.requestLimit() {
			parts = split(parts)
			continue
		}
		failure = d.try(ctx, c, part)
		switch d.book(ctx, c, stats.Counts{Spooled: -spans}, part, spans, failure) {
		case taken, rejected:
			parts = parts[1:]
		case tooLarge:
			parts = split(parts)
		case waiting:
			return slices.Concat(parts...), failure
		case pointless:
			return slices.Concat(parts...), nil
		}
	}
	return slices.Concat(parts...), nil
}

// split replaces the first of the parts by its halves.
func split(parts [][]*tracepb.ResourceSpans) [][]*tracepb.ResourceSpans {
	first, second := halve(parts[0], countSpans(parts[0]))
	return append([][]*tracepb.ResourceSpans{first, second}, parts[1:]...)
}

// shrink leaves of a batch what has not been delivered of it.
func shrink(s *spool.Spool, b *spool.Batch, left []*tracepb.ResourceSpans) {
	if body, err := proto.Marshal(&coltracepb.ExportTraceServiceRequest{ResourceSpans: left}); err == nil { // it came from there
		s.Shrink(b, countSpans(left), body)
	}
}
