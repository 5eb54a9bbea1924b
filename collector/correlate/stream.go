package correlate

import (
	"math"
	"slices"
	"strings"
	"time"
)

// A plugin sends its requests over one connection and numbers them, and lightningd
// begins them in that order. So a plugin's requests, by number, and lightningd's
// commands, by their start, are two streams in the same order; in the second one
// stand the commands of other clients too. A request comes when it is answered, so
// in the first one there are gaps: requests that are still open, or lost.

const (
	// maxStreams bounds the plugins of a node whose requests are followed.
	maxStreams = 128
	// maxEntries bounds the requests of a plugin that are kept, for later ones to be
	// compared with. Only those beside a gap are kept for long.
	maxEntries = 1024
	// maxGap is the longest gap in the numbers that is not taken for another run of
	// the plugin or an invention.
	maxGap = 256
	// maxAligned bounds the requests that are aligned at once.
	maxAligned = 64
	// briefly is how long a request takes at most that lightningd answers at once.
	briefly = 5 * time.Millisecond
	// gapWait is how long a gap is kept for the request that fills it.
	gapWait = 10 * time.Minute
)

// stream is the requests of one plugin, by number.
type stream struct {
	entries  []*entry
	methods  map[string]string // that the plugin has asked for, as far as they are few
	ends     []ended           // of the last requests, that may have been followed by others
	last     lastRequest
	inserted int // since the last compaction
}

// entry is a request of a plugin, or a gap: a number of which nothing has come.
type entry struct {
	number     uint64
	method     string
	start, end int64 // µs
	known      bool  // false: a gap
	span       *Span // waits to be paired; nil: it does not
	tried      bool  // when it had been known for pairAfter
	command    *command
	noticed    time.Time
}

func newStream() *stream { return &stream{methods: make(map[string]string)} }

// add takes in the request s with that number. It returns nil if the number is none
// that can come now: it came before, or is too old.
func (t *stream) add(s *Span, number uint64, now time.Time) *entry {
	e := &entry{
		number: number, method: t.method(clip(s.Detail)), start: s.Timestamp, end: s.Timestamp + s.Duration,
		known: true, noticed: now,
	}
	if t.inserted++; t.inserted >= maxAligned {
		t.compact(now)
	}
	last := len(t.entries) - 1
	if last >= 0 && number < t.entries[0].number {
		return t.prepend(e)
	}
	if last >= 0 && number <= t.entries[last].number {
		i := t.index(number)
		if i == len(t.entries) || t.entries[i].number != number || t.entries[i].known {
			return nil
		}
		t.entries[i] = e
		return e
	}
	if last >= 0 && number-t.entries[last].number > maxGap {
		clear(t.entries)
		t.entries = t.entries[:0]
	} else if last >= 0 {
		for n := t.entries[last].number + 1; n < number; n++ {
			t.entries = append(t.entries, &entry{number: n, noticed: now})
		}
	}
	t.entries = append(t.entries, e)
	return e
}

// method returns a copy of name that is kept.
func (t *stream) method(name string) string {
	if known, ok := t.methods[name]; ok {
		return known
	}
	name = strings.Clone(name)
	if len(t.methods) < maxAligned {
		t.methods[name] = name
	}
	return name
}

// prepend takes in a request that was sent before the first one that came.
func (t *stream) prepend(e *entry) *entry {
	first := t.entries[0].number
	if first-e.number > maxGap || len(t.entries) >= maxEntries {
		return nil
	}
	front := []*entry{e}
	for n := e.number + 1; n < first; n++ {
		front = append(front, &entry{number: n, noticed: e.noticed})
	}
	t.entries = append(front, t.entries...)
	return e
}

func (t *stream) index(number uint64) int {
	i, _ := slices.BinarySearchFunc(t.entries, number, func(e *entry, n uint64) int {
		switch {
		case e.number < n:
			return -1
		case e.number > n:
			return 1
		}
		return 0
	})
	return i
}

// settled reports whether nothing more will be learned of e.
func (e *entry) settled(now time.Time) bool {
	return e.command != nil || e.known && e.span == nil && now.Sub(e.noticed) > quiet || !e.known && now.Sub(e.noticed) > gapWait
}

// compact forgets the entries that say nothing of a gap: those that stand between
// two that are settled. The newest one stays, for those that follow.
func (t *stream) compact(now time.Time) {
	t.inserted = 0
	kept := t.entries[:0]
	before := true // the one before is settled
	for i, e := range t.entries {
		settled := e.settled(now)
		last := i == len(t.entries)-1
		if !settled || !before || last || !t.entries[i+1].settled(now) {
			kept = append(kept, e)
		}
		before = settled
	}
	clear(t.entries[len(kept):])
	t.entries = kept
	if excess := len(t.entries) - maxEntries; excess > 0 {
		t.entries = slices.Delete(t.entries, 0, excess)
	}
}

// mayHaveAsked reports whether the command may have served a request of the plugin: one
// that came, one in a gap, or, if such requests wait for their answer, one that has not
// come yet. Those that wait have been counted already. looked is at how many it looked.
func (t *stream) mayHaveAsked(by *command, own, waits bool) (may bool, looked int) {
	for i := len(t.entries) - 1; i >= 0; i-- {
		e := t.entries[i]
		looked++
		inTime := e.known && e.start <= by.start
		switch {
		case e.command != nil && e.command.start > by.start:
			may = false // those after it were begun later still
		case e.command != nil:
			return may, looked // and those before it were begun earlier
		case !e.known:
			may = may || t.sentBefore(i, by.start)
		case inTime && e.method == by.method && by.end <= e.end && e.span == nil:
			may = true
		case inTime && waits && i == len(t.entries)-1:
			if own {
				may = by.start-e.start > briefly.Microseconds()
			} else {
				may = by.start-e.end <= evidenceWindow.Microseconds()
			}
		}
		if e.known && e.end <= by.start {
			return may, looked
		}
	}
	return may, looked
}

// sentBefore reports whether the request in the gap at i may have been sent by then, µs.
func (t *stream) sentBefore(i int, then int64) bool {
	for i--; i >= 0; i-- {
		if t.entries[i].known {
			return t.entries[i].start <= then
		}
	}
	return true
}

// isAlone reports whether the request at i was answered so soon that the plugin hardly made
// another one of the same method meanwhile. If it made the next one that is known before
// the answer, it made those in the gap between them then, too.
func (t *stream) isAlone(i int) bool {
	e := t.entries[i]
	for _, next := range t.entries[i+1:] {
		if next.known {
			return next.start >= e.end && e.isBrief()
		}
	}
	return e.isBrief()
}

func (e *entry) isBrief() bool { return e.end-e.start <= briefly.Microseconds() }

// bounds returns what the requests beside the one at i say of its command: maxAligned on
// each side at most, for all that wait ask for that.
func (t *stream) bounds(i int) interval {
	e := t.entries[i]
	in := interval{after: e.start - 1, before: e.end + 1, end: e.end}
	for _, other := range t.entries[i+1 : min(i+1+maxAligned, len(t.entries))] {
		if other.command != nil {
			in.before = min(in.before, other.command.start)
			break
		}
	}
	for j := i - 1; j >= max(i-maxAligned, 0); j-- {
		if other := t.entries[j]; other.command != nil {
			in.after = max(in.after, other.command.start)
			break
		}
	}
	return in
}

// around returns the entries from..to-1 around i that no command is known of, and
// what bounds their commands.
func (t *stream) around(i int) (from, to int, in interval) {
	in = interval{after: math.MinInt64, before: math.MaxInt64, end: math.MaxInt64}
	for from = i; from > 0; from-- {
		if before := t.entries[from-1].command; before != nil {
			in.after = before.start
			break
		}
	}
	for to = i + 1; to < len(t.entries); to++ {
		if after := t.entries[to].command; after != nil {
			in.before = after.start
			break
		}
	}
	return from, to, in
}
