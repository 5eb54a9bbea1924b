package payments

import (
	"cmp"
	"slices"
	"time"

	"clntrace/collector/cln"
)

// Observation is what the statistics use of a part, a payment, a forward or a phase
// of a forward that has ended.
type Observation struct {
	Kind     Kind
	Program  string
	Channel  cln.Channel // a part's first one, a forward's outgoing one; 0: none
	Outcome  string      // success, settled, or the error.type
	Duration time.Duration
	Failed   bool
}

// State is what there is, and has been.
type State struct {
	Parts             int64 `json:"parts"` // that have begun
	Failed            int64 `json:"failed"`
	Open              int64 `json:"open"`
	OldestOpenSeconds int64 `json:"oldest_open_seconds"` // of parts and forwards
	Forwards          int64 `json:"forwards"`
	ForwardsOpen      int64 `json:"forwards_open"`
	ForwardsFailed    int64 `json:"forwards_failed"`
	// Unjoined counts the ends of parts and the offers of forwards for which no span
	// was found.
	Unjoined int64 `json:"unjoined"`
	// Dropped counts notifications, open parts and open forwards for which there was
	// no room.
	Dropped int64 `json:"dropped"`
}

// Open is a part or a forward that has not ended.
type Open struct {
	Kind     Kind
	Program  string
	Hash     cln.Hash
	Part     uint64        // of a payment
	Channels []cln.Channel // a part's route; a forward's incoming and outgoing channel, the latter if known
	Since    time.Time
	Request  RequestID // of a part, once it is known
}

// State returns the counters at the time now.
func (t *Tracker) State(now time.Time) State {
	s := t.state
	s.Open, s.ForwardsOpen = int64(t.parts.Len()), int64(t.forwards.Len())
	if since := t.oldest(); !since.IsZero() {
		s.OldestOpenSeconds = max(int64(now.Sub(since)/time.Second), 0)
	}
	return s
}

func (t *Tracker) oldest() (since time.Time) {
	if _, p, ok := t.parts.GetOldest(); ok {
		since = p.since
	}
	if _, f, ok := t.forwards.GetOldest(); ok && (since.IsZero() || f.start().Before(since)) {
		since = f.start()
	}
	return since
}

// Open returns the parts and forwards that have not ended, the oldest first, at
// most limit of them.
func (t *Tracker) Open(limit int) []Open {
	list := make([]Open, 0, t.parts.Len()+t.forwards.Len())
	for _, p := range t.parts.Values() {
		o := Open{Kind: KindPart, Program: programSends, Hash: p.start.Hash, Part: p.start.Number, Since: p.since}
		if p.payment != nil {
			o.Request = p.payment.request
		}
		for _, hop := range p.start.Hops {
			o.Channels = append(o.Channels, hop.Channel)
		}
		list = append(list, o)
	}
	for _, f := range t.forwards.Values() {
		o := Open{Kind: KindForward, Program: programNode, Hash: f.last.Hash, Channels: []cln.Channel{f.last.In}, Since: f.start()}
		if f.last.Out != 0 {
			o.Channels = append(o.Channels, f.last.Out)
		}
		list = append(list, o)
	}
	slices.SortStableFunc(list, func(a, b Open) int { return cmp.Compare(a.Since.UnixNano(), b.Since.UnixNano()) })
	return list[:min(limit, len(list))]
}
