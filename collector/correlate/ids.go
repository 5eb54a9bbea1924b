package correlate

import (
	"crypto/sha256"
	"encoding/binary"

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

// of returns r or, if that is unknown, the run of the process that started p, which
// for plugins is lightningd.
func (r Run) of(p *process.Identity) Run {
	if r.PID != 0 {
		return r
	}
	return Run{p.ParentPID, p.ParentStartTime}
}

// ids computes ids from paths. It is not safe for concurrent use.
type ids struct{ buffer []byte }

// What is hashed begins with its purpose, so that ids of different kinds never
// coincide for the same path.
const (
	forTrace  = 't'
	forSpan   = 's'
	forOrphan = 'o'
	forKey    = 'k'
)

// pathKey stands for a path in a table. It has 16 bytes, while a sender can make a
// path 2,000 bytes long.
type pathKey [16]byte

func (i *ids) pathKey(path cln.Path) (key pathKey) {
	sum := i.sum(forKey, Run{}, string(path))
	copy(key[:], sum[:])
	return key
}

// traceID is the trace id of all requests under root.
func (i *ids) traceID(r Run, root cln.Path) (id trace.TraceID) {
	sum := i.sum(forTrace, r, string(root))
	copy(id[:], sum[:])
	return id
}

// spanID is the span id of the request with that path.
func (i *ids) spanID(r Run, path cln.Path) (id trace.SpanID) {
	sum := i.sum(forSpan, r, string(path))
	copy(id[:], sum[:])
	return id
}

// orphanTraceID is the trace id of a span whose own is lost. It depends only on the
// span, so that a repeated datagram does not make two traces.
func (i *ids) orphanTraceID(s *Span) (id trace.TraceID) {
	text := binary.BigEndian.AppendUint64(s.ID[:], uint64(s.Timestamp)) //nolint:gosec // never negative
	sum := i.sum(forOrphan, Run{s.Process.PID, s.Process.StartTime}, string(text))
	copy(id[:], sum[:])
	return id
}

func (i *ids) sum(purpose byte, r Run, text string) [sha256.Size]byte {
	b := append(i.buffer[:0], purpose)
	b = binary.BigEndian.AppendUint32(b, uint32(r.PID)) //nolint:gosec // never negative
	b = binary.BigEndian.AppendUint64(b, r.StartTime)
	b = append(b, text...)
	i.buffer = b
	return sha256.Sum256(b)
}
