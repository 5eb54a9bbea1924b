package correlate

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/process"
)

// Run identifies one run of lightningd. The next run counts its requests from the
// start again, so the run is a part of every computed id.
type Run struct {
	PID       int32
	StartTime uint64 // clock ticks since boot
}

// scope is what ids are computed in: the same path in another scope has another id.
type scope [16]byte

// ids computes ids from paths. It is not safe for concurrent use.
type ids struct {
	origin  []byte        // of all that we see: the machine, its boot and the pid namespace
	unknown func() []byte // stands for runs that are not known
	buffer  []byte
}

func newIDs(origin []byte, unknown func() []byte) *ids {
	if unknown == nil {
		unknown = func() []byte { return nil }
	}
	return &ids{origin: origin, unknown: sync.OnceValue(unknown)}
}

// What is hashed begins with its purpose, so that ids of different kinds never
// coincide for the same path.
const (
	forTrace  = 't'
	forSpan   = 's'
	forOrphan = 'o'
	forKey    = 'k'
	forLater  = 'l' // what a request does after its root
	forRun    = 'r'
)

// run is the scope of what lightningd numbers.
func (i *ids) run(r Run) scope {
	if r.StartTime == 0 { // the pid, if it is known, may be another's by now
		return i.within(scope{}, r, slices.Concat(i.origin, i.unknown()))
	}
	return i.within(scope{}, r, i.origin)
}

// plugin is the scope of what a plugin numbers.
func (i *ids) plugin(node scope, p *process.Identity) scope {
	return i.within(node, Run{p.PID, p.StartTime}, nil)
}

func (i *ids) within(outer scope, r Run, more []byte) (in scope) {
	text := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(r.PID)), r.StartTime) //nolint:gosec // never negative
	sum := i.sum(forRun, outer, string(text)+string(more))
	copy(in[:], sum[:])
	return in
}

// pathKey stands for a path in a table. It has 16 bytes, while a sender can make a
// path 2,000 bytes long.
type pathKey [16]byte

func (i *ids) pathKey(in scope, path cln.Path) (key pathKey) {
	sum := i.sum(forKey, in, string(path))
	copy(key[:], sum[:])
	return key
}

// traceID is the trace id of all requests under root.
func (i *ids) traceID(in scope, root cln.Path) (id trace.TraceID) {
	sum := i.sum(forTrace, in, string(root))
	copy(id[:], sum[:])
	return id
}

// spanID is the span id of the request with that path.
func (i *ids) spanID(in scope, path cln.Path) (id trace.SpanID) {
	sum := i.sum(forSpan, in, string(path))
	copy(id[:], sum[:])
	return id
}

// continuedTraceID is the trace id of what a request does after its root has been
// added, beginning with the span with that path.
func (i *ids) continuedTraceID(in scope, path cln.Path) (id trace.TraceID) {
	sum := i.sum(forLater, in, string(path))
	copy(id[:], sum[:])
	return id
}

// continuedSpanID is the id of the root of such a trace.
func (i *ids) continuedSpanID(of trace.TraceID) (id trace.SpanID) {
	sum := i.sum(forLater, scope{}, string(of[:]))
	copy(id[:], sum[:])
	return id
}

// orphanTraceID is the trace id of a span whose own is lost. It depends only on the
// span, so that a repeated datagram does not make two traces.
func (i *ids) orphanTraceID(s *Span) (id trace.TraceID) {
	text := binary.BigEndian.AppendUint64(s.ID[:], uint64(s.Timestamp)) //nolint:gosec // never negative
	in := i.plugin(i.within(scope{}, Run{}, i.origin), s.Process)
	sum := i.sum(forOrphan, in, string(text))
	copy(id[:], sum[:])
	return id
}

func (i *ids) sum(purpose byte, in scope, text string) [sha256.Size]byte {
	b := append(i.buffer[:0], purpose)
	b = append(b, in[:]...)
	b = append(b, text...)
	i.buffer = b
	return sha256.Sum256(b)
}
