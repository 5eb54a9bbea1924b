package recorder

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
)

// BenchmarkAdd is the cost of a span of ordinary traffic. Beside the mean it reports
// the time of the fastest piece and of the tenth part of the pieces that were fastest:
// what a span costs when nothing else wants the processor.
func BenchmarkAdd(b *testing.B) {
	for name, list := range recordings(b) {
		b.Run(name, func(b *testing.B) {
			spans := correlated(b, list)
			r := New(16 << 20)
			end := play(r, spans)
			lasted := end.Sub(spans[0].at)
			b.ReportAllocs()
			const piece = 500
			var pieces []time.Duration
			var d described
			began, ticked := time.Now(), time.Time{}
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				round := i/len(spans) + 1
				s := spans[i%len(spans)]
				in := narrow(s.Span, &d)
				binary.NativeEndian.PutUint64(in.TraceID[8:], binary.NativeEndian.Uint64(in.TraceID[8:])^uint64(round))
				now := s.at.Add(time.Duration(round) * lasted)
				if now.Sub(ticked) >= time.Second {
					r.Tick(now)
					ticked = now
				}
				r.Add(&in, now)
				if i%piece == piece-1 {
					pieces = append(pieces, time.Since(began))
					began = time.Now()
				}
			}
			if len(pieces) > 0 {
				slices.Sort(pieces)
				b.ReportMetric(float64(pieces[0].Nanoseconds())/piece, "least-ns/span")
				b.ReportMetric(float64(pieces[len(pieces)/10].Nanoseconds())/piece, "calm-ns/span")
			}
		})
	}
}

// BenchmarkUniqueRoots is the cost of a root whose name, or whose tag, nobody else has,
// as somebody sends it who wants to fill the memory.
func BenchmarkUniqueRoots(b *testing.B) {
	for what, name := range map[string]string{"names": "made up", "tags": "made up and the same"} {
		b.Run(what, func(b *testing.B) {
			before := heap()
			f := newFeed(16 << 20)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				text := fmt.Sprint("made up ", i)
				s := Span{TraceID: f.traceID(), ID: spanID(1), Process: "lightningd", Name: name, Start: f.now.UnixMicro()}
				if what == "names" {
					s.Name = text
				}
				ofForm(text)(&s)
				f.Add(&s, f.now)
			}
			b.ReportMetric(float64(f.Status().Bytes)/(1<<20), "MiB")
			b.ReportMetric(float64(heap()-before)/(1<<20), "heap-MiB")
			runtime.KeepAlive(f)
		})
	}
}
