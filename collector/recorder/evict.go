package recorder

import (
	"cmp"
	"slices"
	"time"
	"unsafe"
)

const (
	// waitingShare is the part of the memory that traces without their root may take:
	// a quarter of 16 MiB is twenty starts of lightningd. Somebody who sends spans
	// whose root never comes pushes out nothing else.
	waitingShare = 4
	// traceShare is the part of it that one trace may take: a start of lightningd takes
	// a sixth of 1 MiB.
	traceShare = 4
	// maxGone bounds the traces that were given up and of which something may follow.
	maxGone = 1024
	// roomShare is the part of the memory that is made free at once, because looking
	// for what is least interesting costs 0.1 ms.
	roomShare = 64
	// maxSpare is the size up to which the memory of a trace of one span is used
	// again, and maxSpares the number of those that wait for it.
	maxSpare  = 2048 // bytes
	maxSpares = 32
	// maxDraft is the same for traces of several spans, and draftShare the part of the
	// memory that waits for it.
	maxDraft   = 128 << 10 // bytes
	draftShare = 32
	// formShare is the part of the memory that may take what is known of forms. A node
	// has some 700 of them, which take half a MiB.
	formShare = 8
	// draftText is room for the texts of a span, of a trace of several ones.
	draftText = 128 // bytes
)

// What things take in memory, as the allocator rounds it up, besides what is
// variable.
const (
	heldSize = (int64(unsafe.Sizeof(held{})) + 31) / 32 * 32
	// indexSize is an entry of byID: key, pointer, and the room that maps leave free.
	indexSize = 48
	// nameSize is an entry of Recorder.byName, and of held.names.
	nameSize = indexSize + int64(unsafe.Sizeof(spanName{}))
	// goneSize is a trace that was given up: an entry of a map and of a list.
	goneSize = 112
	// formSize is a form, and an entry of forms.known.
	formSize    = int64(unsafe.Sizeof(form{})) + int64(unsafe.Sizeof(Form{})) + 2*indexSize
	singlesSize = 2 * manySingles
	listSize    = 64 // that of 8 pointers
	kindSize    = (int64(unsafe.Sizeof(kind{}))+63)/64*64 + (2+int64(periods))*listSize +
		int64(unsafe.Sizeof(kindKey{})) + 2*indexSize
	failedSize = int64(unsafe.Sizeof(failedOfType{})) + listSize + maxErrorType
)

// bytes is how many bytes h takes in memory.
func (h *held) bytes() int64 {
	n := heldSize + int64(len(h.errorType)+len(h.failedIn)+len(h.payment))
	if h.form == nil {
		n += h.size()
	} else {
		n += int64(cap(h.spans)) * int64(unsafe.Sizeof(stored{}))
	}
	if h.indexed {
		n += indexSize
	}
	return n + int64(cap(h.names))*nameSize + int64(cap(h.served))*int64(unsafe.Sizeof(h))
}

// labels say why a trace is kept.
type labels uint8

const (
	isRecent  labels = 1 << iota // one of the newest
	isSlowest                    // one of the slowest of the last hour
	isEver                       // one of the slowest since the start
	isFailed                     // one of the newest that failed
	isListed         = isRecent | isSlowest | isEver | isFailed
	isVisited labels = 1 << 7
)

// label finds out why each trace of k is kept. One without any of the labels is kept
// for the time when a slower one is more than an hour old.
func (k *kind) label(now time.Time) {
	for h := range k.traces() {
		h.labels = 0
	}
	for _, h := range k.newest {
		h.labels |= isRecent
	}
	for _, h := range k.ever {
		h.labels |= isEver
	}
	for _, f := range k.failed {
		for _, h := range f.newest {
			h.labels |= isFailed
		}
	}
	for range perList {
		var slowest *held
		for i := range k.hour {
			for _, h := range k.hour[i] {
				if h.labels&isSlowest == 0 && now.Sub(h.decided) <= hour && (slowest == nil || h.duration > slowest.duration) {
					slowest = h
				}
			}
		}
		if slowest == nil {
			return
		}
		slowest.labels |= isSlowest
	}
}

// interest orders labels, the least interesting first.
func (l labels) interest() int {
	switch {
	case l&isFailed != 0:
		return 4
	case l&isEver != 0:
		return 3
	case l&isSlowest != 0:
		return 2
	case l&isRecent != 0:
		return 1
	}
	return 0
}

const mostInteresting = 4

// makeRoom brings what is held below the limit. Traces whose root has not come go
// when they take more than their share. Of the others the least interesting go, of
// the kinds that take most first, so that a kind whose traces are huge, or many kinds
// made up by somebody, cost the failed and the slowest of the others nothing.
func (r *Recorder) makeRoom(now time.Time) {
	for r.waits > r.limit/waitingShare {
		if h := r.rooted.first; h != nil {
			r.decide(h, now) // what it might still get can join it later
		} else if !r.forgetOldest() {
			break
		}
	}
	r.forgetForms(func(f *form) bool { return f.refs == 1 }) // that no trace has
	r.compactNewest()
	if r.bytes <= r.limit {
		return
	}
	enough := r.limit - r.limit/roomShare
	if r.shrinkServing(enough); r.bytes <= enough {
		return
	}
	for _, k := range r.order {
		k.label(now)
	}
	order := slices.SortedFunc(slices.Values(r.order), func(a, b *kind) int { return cmp.Compare(b.bytes, a.bytes) })
	for interest := 0; interest <= mostInteresting; interest++ {
		for _, k := range order {
			if r.evict(k, interest, enough) {
				return
			}
		}
	}
	for r.bytes > r.limit && r.forgetOldest() {
	}
}

// compactNewest stores the traces anew with which that has waited.
func (r *Recorder) compactNewest() {
	if r.bytes <= r.limit {
		return
	}
	for _, k := range r.order {
		for _, h := range k.newest {
			r.storeAnew(h)
		}
	}
}

// evict evicts traces of k of that interest until no more than enough bytes are
// held, and reports whether that has been reached.
func (r *Recorder) evict(k *kind, interest int, enough int64) bool {
	for {
		var h *held
		for other := range k.traces() {
			if other.labels.interest() == interest && (h == nil || other.decided.Before(h.decided)) {
				h = other
			}
		}
		if h == nil {
			return false
		}
		for l := range k.lists() {
			if at := slices.Index(*l, h); at >= 0 {
				*l = slices.Delete(*l, at, at+1)
				r.release(h)
			}
		}
		r.evicted++
		if r.bytes <= enough {
			return true
		}
	}
}

// forgetOldest forgets the trace that has waited for its root, or for its last span,
// in the longest silence. It reports whether there was one.
func (r *Recorder) forgetOldest() bool {
	h := r.waiting.first
	if h == nil {
		h = r.rooted.first
	}
	if h != nil {
		r.forget(h)
	}
	return h != nil
}
