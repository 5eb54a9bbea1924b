package payments

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/zipkin"
)

// tip is an extend_tip span that has added a block.
type tip struct {
	end int64 // µs
	ref any
	// ambiguous says that another one ended soon before or after it, so that the
	// notification of each may be that of the other.
	ambiguous bool
}

// block is a block_added.
type block struct {
	height uint32 // 0: it did not come
	at     time.Time
}

// addsBlock notes a span below an extend_tip that has found a block. lightningd
// extends its tip by one block after the other.
func (t *Tracker) addsBlock(s *zipkin.Span, now time.Time) {
	if s.ParentID == t.adding {
		return
	}
	if t.adding.IsValid() { // its extend_tip did not come
		t.tip(&tip{end: t.added}, now)
	}
	t.adding, t.added = s.ParentID, s.Timestamp+s.Duration
}

// tipExtended notes an extend_tip span. lightningd sends block_added just before it
// ends, if it has found a block.
func (t *Tracker) tipExtended(s *zipkin.Span, ref any, now time.Time) (waits bool) {
	if s.ID != t.adding {
		return false
	}
	t.adding = trace.SpanID{}
	e := &tip{end: s.Timestamp + s.Duration}
	if waits = t.mode > Off; waits {
		e.ref = ref
	}
	t.tip(e, now)
	return waits
}

func (t *Tracker) tip(e *tip, now time.Time) {
	if last := t.lastTip; last != nil && e.end-last.end < maxBlockLag.Microseconds() {
		last.ambiguous, e.ambiguous = true, true
	}
	t.lastTip = e
	t.blocks.Span(e, now)
}

func matchBlock(s *tip, b *block) bool {
	return within(since(s.end, b.at), -clockSlack, maxBlockLag) && (b.height != 0 || s.ambiguous)
}

func (t *Tracker) blockAdded(e cln.BlockAdded, at time.Time) {
	missing := uint32(1) // nobody knows what was before the first one
	if t.height != 0 {
		missing = max(e.Height, t.height+1) - t.height - 1
	}
	for range min(missing, maxMissing) {
		t.blocks.Missing(&block{at: at}, t.heard, at)
	}
	t.height, t.heard = e.Height, at
	t.blocks.Notification(&block{height: e.Height, at: at}, at)
}

func (t *Tracker) joinBlocks(now time.Time, all bool) {
	r := t.blocks.Look(now, all)
	for _, pair := range r.Pairs {
		t.joined(Joined{Ref: pair.Span.ref, Height: pair.Notification.height})
	}
	for _, s := range r.Spans {
		t.joined(Joined{Ref: s.ref})
	}
}
