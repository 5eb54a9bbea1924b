package recorder

import (
	"encoding/hex"
	"slices"
	"time"
	"unsafe"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
)

// Of a request that takes long, lightningd's work is a trace of its own, which ends long
// before the request does. When the request comes it says which trace that was. Until
// then any command may be the one, so that the newest of each method wait here; and what
// served a request is kept for as long as the trace of the request is.

const (
	// maxServing is how many commands of one method wait for their request: as many as
	// a node that is busy with payments begins while one of them is held.
	maxServing = 256
	// servingShare is the part of them that is given up at once.
	servingShare = 8
	// servingSize is an entry of kind.serving, with the room that append leaves free.
	servingSize = 2 * int64(unsafe.Sizeof((*held)(nil)))
)

// await keeps h, a command, for a request that may come.
func (r *Recorder) await(h *held) {
	k := h.kind
	if len(k.serving) >= maxServing {
		r.removeServing(k, 0, maxServing/servingShare) // at once, because the others move
	}
	h.refs++
	k.serving = append(k.serving, h)
	k.bytes += servingSize
	r.bytes += servingSize
}

// removeServing ends the wait of the commands of k from the index i on, up to j.
func (r *Recorder) removeServing(k *kind, i, j int) {
	for _, h := range k.serving[i:j] {
		r.release(h)
	}
	k.serving = slices.Delete(k.serving, i, j)
	k.bytes -= int64(j-i) * servingSize
	r.bytes -= int64(j-i) * servingSize
}

// expireServing gives up the commands whose request is no longer waited for.
func (r *Recorder) expireServing(now time.Time) {
	for _, k := range r.order {
		old := 0
		for old < len(k.serving) && now.Sub(k.serving[old].decided) >= rootWait {
			old++
		}
		if old > 0 {
			r.removeServing(k, 0, old)
		}
	}
}

// shrinkServing gives up commands that wait for their request, the oldest of each method
// first, until no more than enough bytes are held.
func (r *Recorder) shrinkServing(enough int64) {
	for some := true; some && r.bytes > enough; {
		some = false
		for _, k := range r.order {
			if n := len(k.serving); n > 0 {
				r.removeServing(k, 0, (n+servingShare-1)/servingShare)
				some = true
			}
		}
	}
}

// claim keeps with h the traces of what served its requests.
func (r *Recorder) claim(h *held) {
	for i := range h.spans {
		n := &h.spans[i]
		id := parseID(h.textOf(n, keyServedBy))
		if !id.IsValid() {
			continue
		}
		k := r.kinds[kindKey{cln.Daemon, cln.SpanCommand, alias(h.get(n.detail))}]
		if k == nil {
			continue
		}
		// What has claimed others is none, so that no chains come about.
		at := slices.IndexFunc(k.serving, func(by *held) bool { return by.id == id && by.served == nil })
		if at < 0 {
			continue
		}
		by := k.serving[at]
		by.refs++
		h.served = append(h.served, by)
		r.removeServing(k, at, at+1)
	}
}

// parseID reads an id; it is not valid if text is none.
func parseID(text []byte) (id trace.TraceID) {
	if len(text) != 2*len(id) {
		return id
	}
	if _, err := hex.Decode(id[:], text); err != nil {
		return trace.TraceID{}
	}
	return id
}
