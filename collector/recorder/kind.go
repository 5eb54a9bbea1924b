package recorder

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/text"
)

const (
	// maxKinds bounds the kinds of traces, by process, name and detail of their root.
	// What there is no room for shares one more kind, so that somebody who makes up
	// names cannot push out the others.
	maxKinds = 256
	// perList is how many traces each list of a kind holds.
	perList = 5
	// maxErrorTypes bounds the reasons of failures that a kind tells apart.
	maxErrorTypes = 8
	// maxErrorType bounds each of them.
	maxErrorType = 64 // bytes

	hour = time.Hour
	// periodLen is the part of an hour whose slowest traces are kept apart: when the
	// slowest of the hour are an hour old, those of the periods since are there.
	periodLen = 10 * time.Minute
	// periods make up at least an hour, whenever the current one began.
	periods = int(hour/periodLen) + 1
)

// otherKind is what the kind of all others is called.
const otherKind = "(other)"

// kindKey identifies a kind of trace.
type kindKey struct{ process, name, detail string }

// kind keeps the traces of one kind.
type kind struct {
	key    kindKey
	newest list
	ever   list           // the slowest since the start, slowest first
	hour   [periods]list  // the slowest of each period, slowest first
	failed []failedOfType // the type that failed last comes last
	// serving are commands that wait for their request, oldest first. They are not worth
	// looking at for themselves, and in none of the lists.
	serving []*held
	bytes   int64
	used    time.Time
}

// list are at most perList traces.
type list []*held

// failedOfType are traces that failed for the same reason.
type failedOfType struct {
	errorType string
	newest    list
}

// traces are those of k, some of them more than once.
func (k *kind) traces() iter.Seq[*held] {
	return func(yield func(*held) bool) {
		for l := range k.lists() {
			for _, h := range *l {
				if !yield(h) {
					return
				}
			}
		}
	}
}

// lists are those of k, the least interesting traces first.
func (k *kind) lists() iter.Seq[*list] {
	return func(yield func(*list) bool) {
		if !yield(&k.newest) {
			return
		}
		for i := range k.hour {
			if !yield(&k.hour[i]) {
				return
			}
		}
		if !yield(&k.ever) {
			return
		}
		for i := range k.failed {
			if !yield(&k.failed[i].newest) {
				return
			}
		}
	}
}

// kindOf returns the kind of h.
func (r *Recorder) kindOf(h *held, now time.Time) *kind {
	root := &h.spans[h.root]
	// A map is asked without making strings of its keys only if they are strings.
	key := kindKey{alias(h.get(root.process)), alias(h.get(root.name)), alias(h.get(root.detail))}
	k := r.kinds[key]
	if k == nil {
		k = r.newKind(key, now)
	}
	k.used = now
	return k
}

// newKind makes a kind, or returns the one of all others if there is no room.
func (r *Recorder) newKind(key kindKey, now time.Time) *kind {
	if len(r.kinds) >= maxKinds && !r.dropKind(now) {
		if r.other == nil {
			r.other = &kind{key: kindKey{name: otherKind}}
			r.addKind(r.other)
		}
		return r.other
	}
	k := &kind{key: kindKey{strings.Clone(key.process), strings.Clone(key.name), strings.Clone(key.detail)}}
	r.kinds[k.key] = k
	r.addKind(k)
	return k
}

func (r *Recorder) addKind(k *kind) {
	r.order = append(r.order, k)
	k.bytes = k.fixed()
	r.bytes += k.bytes
}

// fixed is how many bytes k takes without its traces.
func (k *kind) fixed() int64 {
	return kindSize + int64(len(k.key.process)+len(k.key.name)+len(k.key.detail)) + int64(len(k.failed))*failedSize
}

// dropKind makes room for a new kind by giving up the one that has not been seen for
// longest, if that is more than an hour.
func (r *Recorder) dropKind(now time.Time) bool {
	if now.Before(r.noDrop) {
		return false
	}
	oldest := r.order[0]
	for _, k := range r.order {
		if k != r.other && (oldest == r.other || k.used.Before(oldest.used)) {
			oldest = k
		}
	}
	if now.Sub(oldest.used) < hour {
		r.noDrop = oldest.used.Add(hour) // at the earliest; kinds are only used later still
		return false
	}
	for l := range oldest.lists() {
		r.releaseAll(l)
	}
	r.removeServing(oldest, 0, len(oldest.serving))
	r.removeKind(oldest)
	return true
}

func (r *Recorder) removeKind(k *kind) {
	r.forgetForms(func(f *form) bool { return f.kind == k })
	delete(r.kinds, k.key)
	r.bytes -= k.fixed()
	r.order = slices.DeleteFunc(r.order, func(o *kind) bool { return o == k })
}

// keep keeps h, whose sums are known, in the lists of its kind k.
func (r *Recorder) keep(h *held, k *kind, now time.Time) {
	h.kind, h.state, h.decided = k, keptState, now
	h.refs = 1 // ours, until we are done
	if !h.indexed {
		*r.singles.of(h.id)++
	}
	r.kept++
	r.spans += int64(len(h.spans))
	r.charge(h)
	if k.key.name == cln.SpanCommand {
		r.await(h)
	}
	r.push(&k.newest, h)
	if p := r.periodOf(now); p != r.period {
		r.turn(now)
	}
	r.rank(&k.hour[r.period%int64(periods)], h)
	r.rank(&k.ever, h)
	if h.failed {
		r.push(r.failures(k, cmp.Or(h.errorType, h.failedIn)), h)
	}
	r.release(h)
}

// push adds h to a list of the newest, from which the oldest goes.
func (r *Recorder) push(l *list, h *held) {
	h.refs++
	if len(*l) < perList {
		*l = append(*l, h)
		return
	}
	old := (*l)[0]
	copy(*l, (*l)[1:])
	(*l)[perList-1] = h
	r.release(old)
	if old.refs > 0 {
		r.storeAnew(old)
	}
}

// rank adds h to a list of the slowest, if it is one of them.
func (r *Recorder) rank(l *list, h *held) {
	n := len(*l)
	if n == perList && (*l)[n-1].duration >= h.duration {
		return
	}
	h.refs++
	if n == perList {
		r.release((*l)[n-1])
	} else {
		*l = append(*l, nil)
		n++
	}
	at := n - 1
	for ; at > 0 && (*l)[at-1].duration < h.duration; at-- {
		(*l)[at] = (*l)[at-1]
	}
	(*l)[at] = h
}

// failures returns the list of the traces of k that failed for that reason. If there
// are too many reasons, the one that has not been seen for longest makes room.
func (r *Recorder) failures(k *kind, errorType string) *list {
	errorType = text.Clip(errorType, maxErrorType)
	at := slices.IndexFunc(k.failed, func(f failedOfType) bool { return f.errorType == errorType })
	switch {
	case at >= 0:
		f := k.failed[at]
		k.failed = append(slices.Delete(k.failed, at, at+1), f)
	case len(k.failed) >= maxErrorTypes:
		r.releaseAll(&k.failed[0].newest)
		k.failed = append(slices.Delete(k.failed, 0, 1), failedOfType{errorType: errorType})
	default:
		k.failed = append(k.failed, failedOfType{errorType: errorType})
		k.bytes += failedSize
		r.bytes += failedSize
	}
	return &k.failed[len(k.failed)-1].newest
}

// release takes h out of one list. With the last one it is gone.
func (r *Recorder) release(h *held) {
	h.refs--
	if h.refs > 0 {
		return
	}
	for _, by := range h.served {
		r.release(by)
	}
	h.served = nil
	r.kept--
	r.spans -= int64(len(h.spans))
	r.bytes -= h.charged
	h.kind.bytes -= h.charged
	if h.indexed {
		delete(r.byID, h.id)
	} else {
		*r.singles.of(h.id)--
	}
	if len(h.spans) == 1 {
		r.putSpare(h)
	} else {
		r.putDraft(h.body)
	}
}

func (r *Recorder) releaseAll(l *list) {
	for _, h := range *l {
		r.release(h)
	}
	*l = nil
}

func (r *Recorder) periodOf(now time.Time) int64 { return now.Unix() / int64(periodLen/time.Second) }

// turn forgets the slowest of periods that are more than an hour old.
func (r *Recorder) turn(now time.Time) {
	p := r.periodOf(now)
	if p == r.period {
		return
	}
	gone := min(max(p-r.period, 0), int64(periods))
	if p < r.period { // the clock was set back
		gone = int64(periods)
	}
	r.period = p
	for _, k := range r.order {
		for i := range gone {
			r.releaseAll(&k.hour[(p-i+int64(periods))%int64(periods)])
		}
	}
}
