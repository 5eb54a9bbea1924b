// Package align joins two streams that tell of the same events in the same order: the
// spans that lightningd and its plugins send, and the notifications. Both may have
// lost some, and nothing that they carry names their partner.
//
// A pair has to be possible by what both carry (Rule.Match), in order, and without
// an alternative: of all ways to join as many as can be joined, each has to contain
// it. What has no such partner stays unjoined; there is never a guess. Where it is
// known that a notification is missing (Missing), it keeps its place in the order,
// so that its span is not taken for that of a neighbour.
//
// It takes spans and notifications of any two types, and gives pairs and what is
// left. Each waits for Rule.Wait, and lookInterval if Look is called often enough;
// at most Rule.Limit of each kind wait. Package payments uses it.
package align

import "time"

// lookInterval is the shortest time between two looks at what waits. It bounds the
// work: each look compares each span with each notification.
const lookInterval = 100 * time.Millisecond

// eternity is longer than a clock is wrong.
const eternity = 100 * 365 * 24 * time.Hour

// Rule says what may be joined.
type Rule[S, N any] struct {
	// Match reports whether what a span and a notification carry allows that they
	// tell of the same event.
	Match func(S, N) bool
	// Doubt reports whether there is a reason not to join a pair that order and Match
	// have left without an alternative. It may be nil.
	Doubt func(S, N) bool
	// Wait is for how long the partner may still come.
	Wait time.Duration
	// Limit is how many spans, and how many notifications, wait at most. If more
	// come, all that wait are given up.
	Limit int
}

// Pair is a span and the notification of the same event.
type Pair[S, N any] struct {
	Span         S
	Notification N
}

// Result is what no longer waits.
type Result[S, N any] struct {
	Pairs []Pair[S, N]
	// Spans and Notifications were not joined.
	Spans         []S
	Notifications []N
}

// Aligner joins two streams. It is not safe for concurrent use.
type Aligner[S, N any] struct {
	rule   Rule[S, N]
	spans  []item[S]
	notes  []item[N]
	looked time.Time
	gaveUp Result[S, N] // since the last look
}

type item[T any] struct {
	value    T
	at       time.Time
	missing  bool // it did not come
	optional bool // and may have been that of a span that has gone
	done     bool // it is in a Result
}

// New returns an Aligner that joins by a rule.
func New[S, N any](rule Rule[S, N]) *Aligner[S, N] { return &Aligner[S, N]{rule: rule} }

// Span adds a span that came at that time, after those added before.
func (a *Aligner[S, N]) Span(s S, at time.Time) {
	if len(a.spans) >= a.rule.Limit {
		a.giveUp()
	}
	a.spans = append(a.spans, item[S]{value: s, at: at})
}

// Notification adds a notification that came at that time, after those added
// before.
func (a *Aligner[S, N]) Notification(n N, at time.Time) { a.add(item[N]{value: n, at: at}) }

// Missing adds a notification that is known not to have come, but would have come
// between two times, the latter of which is now. n is as much as is known of it: what
// Match needs. If that is long ago, its span may be gone, so it may or may not have a
// place among those that are left.
func (a *Aligner[S, N]) Missing(n N, from, to time.Time) {
	a.add(item[N]{value: n, at: to, missing: true, optional: to.Sub(from) > a.rule.Wait/4})
}

func (a *Aligner[S, N]) add(n item[N]) {
	if len(a.notes) >= a.rule.Limit {
		a.giveUp()
	}
	a.notes = append(a.notes, n)
}

func (a *Aligner[S, N]) giveUp() {
	all := place{len(a.spans), len(a.notes)}
	a.leave(all, &a.gaveUp)
	a.remove(all)
}

// Look returns what has been decided by the time now, and with all what can be
// decided: nothing more will come.
func (a *Aligner[S, N]) Look(now time.Time, all bool) Result[S, N] {
	result := a.gaveUp
	a.gaveUp = Result[S, N]{}
	until := now.Add(-a.rule.Wait)
	if all {
		until = now.Add(eternity)
	} else if now.Sub(a.looked) < lookInterval || !a.due(until) {
		return result
	}
	a.looked = now
	possible, certain := a.compare()
	var decided place // how many of each stream are
	for _, p := range certain {
		s, n := &a.spans[p.span], &a.notes[p.note]
		if s.at.After(until) && n.at.After(until) {
			break // and so are those that follow
		}
		decided = place{p.span + 1, p.note + 1}
		a.decide(s, n, &result)
	}
	old := place{max(aged(a.spans, until), decided.span), max(aged(a.notes, until), decided.note)}
	a.leave(old, &result)
	a.remove(a.cut(possible, decided, old))
	return result
}

// decide gives a pair, unless one of its sides had waited too long before it was
// certain, or is known to be missing.
func (a *Aligner[S, N]) decide(s *item[S], n *item[N], result *Result[S, N]) {
	if s.done || n.done || n.missing || a.rule.Doubt != nil && a.rule.Doubt(s.value, n.value) {
		return
	}
	s.done, n.done = true, true
	result.Pairs = append(result.Pairs, Pair[S, N]{s.value, n.value})
}

// due reports whether anything has waited long enough.
func (a *Aligner[S, N]) due(until time.Time) bool {
	return aged(a.spans, until)+aged(a.notes, until) > 0
}

// aged returns how many of a stream have waited long enough.
func aged[T any](stream []item[T], until time.Time) int {
	for i := range stream {
		if stream[i].at.After(until) {
			return i
		}
	}
	return len(stream)
}

// leave adds to result those of the first of each stream that were not joined.
func (a *Aligner[S, N]) leave(first place, result *Result[S, N]) {
	for i := range a.spans[:first.span] {
		if s := &a.spans[i]; !s.done {
			s.done = true
			result.Spans = append(result.Spans, s.value)
		}
	}
	for j := range a.notes[:first.note] {
		if n := &a.notes[j]; !n.done && !n.missing {
			n.done = true
			result.Notifications = append(result.Notifications, n.value)
		}
	}
}

func (a *Aligner[S, N]) remove(first place) {
	a.spans = append(a.spans[:0], a.spans[first.span:]...)
	a.notes = append(a.notes[:0], a.notes[first.note:]...)
}

// cut returns how many of each stream can be removed: those before the last pair that
// was decided, for what comes after it cannot be joined to them, and of the old ones
// behind it those that could not be joined to anything younger. Others keep their
// place, or what they might be joined to would seem to have no alternative.
func (a *Aligner[S, N]) cut(possible []place, decided, old place) place {
	for changed := true; changed; {
		changed = false
		for _, p := range possible {
			if p.span < decided.span || p.note < decided.note || (p.span < old.span) == (p.note < old.note) {
				continue
			}
			old.span, old.note = min(old.span, p.span), min(old.note, p.note)
			changed = true
		}
	}
	return old
}
