package payments

import (
	"crypto/rand"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/align"
	"clntrace/collector/cln"
	"clntrace/collector/zipkin"
)

const (
	// joinWait is how long a span and a notification wait for each other. Together
	// with a second look it stays below the second that a span may wait.
	joinWait = 700 * time.Millisecond
	// startWait is the same for what tells which span a part's will be. It is over
	// before the part's span has waited long enough, however short the part was.
	startWait = 550 * time.Millisecond
	// blockWait is shorter, for while lightningd catches up there are hundreds of
	// blocks a second.
	blockWait = 300 * time.Millisecond
	// maxLag is how long a notification may take from lightningd to here. Measured: up
	// to 173 ms for parts and forwards, 17 ms for blocks. Of one that is later than
	// usualLag, it is doubted that it is that of a span that it would fit.
	maxLag      = 500 * time.Millisecond
	usualLag    = 250 * time.Millisecond
	maxBlockLag = 150 * time.Millisecond
	// clockSlack is by how much a notification may seem to come before what it tells
	// of. It is written after that, so this is for rounding and for a clock that is
	// being adjusted. Blocks are added within 1.4 ms of each other, and block_added
	// came 1.1 ms after its block at the earliest: a ms here would let it be that of
	// the next block.
	clockSlack = 100 * time.Microsecond
	// maxWaiting bounds what waits in one alignment: 700 a second.
	maxWaiting = 512

	// maxParts bounds the open parts. A channel holds 483 HTLCs; 2,000 parts with
	// routes of 64 hops take 6 MB.
	maxParts = 2000
	// maxForwards bounds the open forwards, of some 400 bytes each.
	maxForwards = 10000
	// maxPayments bounds the payments that have not ended, and maxRequests the
	// requests whose payments are remembered until their root is added.
	maxPayments = 2000
	maxRequests = 4000
	// maxMissing bounds the notifications that are taken to be missing at once.
	maxMissing = 8
)

// Sender is the process that has sent a span.
type Sender struct {
	Program   string // its name
	PID       int32
	StartTime uint64 // 0: unknown
}

// Joined is a span that waited, and what was found out about it.
type Joined struct {
	Ref    any         // as given to Observe
	Part   *PartResult // nil: nothing
	Height uint32      // of the block that it has added; 0: nothing
}

// Output is what the Tracker has found out.
type Output struct {
	Joined       []Joined
	Spans        []Span
	Observations []Observation
}

// Tracker knows the payments and forwards of one node. It is not safe for concurrent
// use.
type Tracker struct {
	mode   Mode
	ids    ids
	state  State // but for what is open
	out    Output
	looked time.Time

	// Parts and payments.
	sender   Sender // the cln-xpay that runs
	reserves reserves
	starts   *align.Aligner[*reserve, *part]
	ends     *align.Aligner[*partSpan, *partEnd]
	parts    *simplelru.LRU[cln.Part, *part]       // open; the oldest first
	closed   *simplelru.LRU[cln.Part, struct{}]    // without a notification
	payments *simplelru.LRU[cln.Part, *payment]    // not over, by their Part 0
	requests *simplelru.LRU[RequestID, []*payment] // by who made them
	asks     []ask                                 // the last ones, in order
	unbound  []*part                               // whose request is not known, and some that have ended
	// suspected are the requests that one of unbound may be of; nil: look again.
	suspected map[RequestID]struct{}

	// Forwards.
	change     *change // the last one seen; nil: none
	changes    *align.Aligner[*change, *forwardEvent]
	forwards   *simplelru.LRU[forwardKey, *forward] // open; the oldest first
	ended      []*forward                           // that may still be joined
	lastOffer  *forward
	lastNumber uint64    // its created_index
	lastNew    time.Time // when it came

	// Blocks.
	adding  trace.SpanID // the extend_tip span that is adding a block
	added   int64        // when, µs
	lastTip *tip
	blocks  *align.Aligner[*tip, *block]
	height  uint32    // of the last block_added; 0: none yet
	heard   time.Time // when it came
}

// New returns a Tracker of nothing.
func New() *Tracker {
	t := &Tracker{
		parts: newLRU[cln.Part, *part](maxParts), closed: newLRU[cln.Part, struct{}](maxParts),
		payments: newLRU[cln.Part, *payment](maxPayments), requests: newLRU[RequestID, []*payment](maxRequests),
		forwards: newLRU[forwardKey, *forward](maxForwards),
	}
	_, _ = rand.Read(t.ids.salt[:]) // never fails
	t.starts = align.New(align.Rule[*reserve, *part]{Match: matchStart, Wait: startWait, Limit: maxWaiting})
	t.ends = align.New(align.Rule[*partSpan, *partEnd]{Match: t.matchEnd, Doubt: t.doubtEnd, Wait: joinWait, Limit: maxWaiting})
	t.changes = align.New(align.Rule[*change, *forwardEvent]{Match: matchChange, Wait: joinWait, Limit: maxWaiting})
	t.blocks = align.New(align.Rule[*tip, *block]{Match: matchBlock, Wait: blockWait, Limit: maxWaiting})
	return t
}

func newLRU[K comparable, V any](size int) *simplelru.LRU[K, V] {
	lru, err := simplelru.NewLRU[K, V](size, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return lru
}

// SetMode says what is made of payments from now on.
func (t *Tracker) SetMode(m Mode) { t.mode = m }

// Mode returns what SetMode has set.
func (t *Tracker) Mode() Mode { return t.mode }

// Drop counts notifications that were lost, or could not be read.
func (t *Tracker) Drop(count int64) { t.state.Dropped += count }

// Notify tells the Tracker what a notification has said that came at the time at.
// Call it in the order of the pipe.
func (t *Tracker) Notify(e cln.Event, at time.Time) {
	t.suspected = nil
	switch e := e.(type) {
	case cln.PartStart:
		t.partBegins(e, at)
	case cln.PartEnd:
		t.partEnds(e, at)
	case cln.Forward:
		t.forwardChanges(e, at)
	case cln.InvoicePaid:
		t.invoicePaid(e, at)
	case cln.BlockAdded:
		t.blockAdded(e, at)
	}
}

// Concerns reports whether a span of that program may be one that Observe uses.
func Concerns(s *zipkin.Span, program string) bool {
	switch program {
	case programNode:
		return cln.IsQuery(s.Name) || cln.AddsBlock(s.Name) || s.Name == cln.SpanExtendTip
	case programSends:
		return s.Name == cln.SpanRequest
	}
	return false
}

// Observe tells the Tracker of a span of this node or one of its plugins. Call it in
// the order of arrival, with the request that the span belongs to, if any. If Observe
// returns true, the span has to wait: it comes back as Joined with that ref, after a
// second at most.
func (t *Tracker) Observe(s *zipkin.Span, from Sender, request RequestID, ref any, now time.Time) (waits bool) {
	switch from.Program {
	case programNode:
		return t.observeNode(s, ref, now)
	case programSends:
		return t.observeSender(s, from, request, ref, now)
	}
	return false
}

func (t *Tracker) observeNode(s *zipkin.Span, ref any, now time.Time) (waits bool) {
	switch {
	case cln.AddsBlock(s.Name):
		t.addsBlock(s, now)
		return false
	case s.Name == cln.SpanExtendTip:
		return t.tipExtended(s, ref, now)
	case !cln.IsQuery(s.Name):
		return false
	}
	query := s.Tag(cln.TagQuery)
	switch {
	case cln.IsForwardUpdate(query):
		t.change = &change{start: s.Timestamp, end: s.Timestamp + s.Duration}
		t.changes.Span(t.change, now)
	case t.change != nil && cln.IsForwardInsert(query):
		t.change.created = s.Timestamp-t.change.end < insertWithin.Microseconds()
	}
	return false
}

// Advance ends waits that are over at the time now.
func (t *Tracker) Advance(now time.Time) {
	t.join(now, false)
	t.closeForwards(now, false)
	t.closePayments(now, false)
}

// Flush ends all waits, and gives what is open as incomplete: clntrace ends.
func (t *Tracker) Flush(now time.Time) {
	t.join(now, true)
	t.abandonForwards(now)
	t.closeForwards(now, true)
	t.abandonParts(now)
	t.closePayments(now, true)
}

func (t *Tracker) join(now time.Time, all bool) {
	t.suspected = nil
	t.joinStarts(now, all) // before the ends, which use what it finds
	t.joinEnds(now, all)
	t.joinForwards(now, all)
	t.joinBlocks(now, all)
}

// Take returns and removes what has been found out.
func (t *Tracker) Take() Output {
	out := t.out
	t.out = Output{}
	return out
}

func (t *Tracker) observe(o Observation) {
	if t.mode > Off {
		t.out.Observations = append(t.out.Observations, o)
	}
}

// add makes a span that nobody sends.
func (t *Tracker) add(s Span) {
	if t.mode == Off {
		return
	}
	if s.End.Before(s.Start) {
		s.End = s.Start
	}
	s.TraceID = t.ids.traceID(s.hash, t.mode)
	t.out.Spans = append(t.out.Spans, s)
}

// joined lets a span go on that has waited.
func (t *Tracker) joined(j Joined) {
	if j.Ref != nil {
		t.out.Joined = append(t.out.Joined, j)
	}
}

// within reports whether a duration lies in an interval, ends included.
func within(d, low, high time.Duration) bool { return low <= d && d <= high }

// since is how long after a time of µs since the Unix epoch another time is.
func since(us int64, at time.Time) time.Duration {
	return time.Duration(at.UnixNano() - us*int64(time.Microsecond))
}
