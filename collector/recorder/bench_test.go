package recorder

import (
	"encoding/binary"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// BenchmarkAdd is the cost of a span of ordinary traffic, in the time of the clock
// and, for machines that have other things to do, of the processor.
func BenchmarkAdd(b *testing.B) {
	for name, list := range recordings(b) {
		b.Run(name, func(b *testing.B) {
			spans := correlated(b, list)
			r := New(16 << 20)
			end := play(r, spans)
			lasted := end.Sub(spans[0].at)
			b.ReportAllocs()
			runtime.GC()
			before := processorTime()
			b.ResetTimer()
			var d described
			var ticked time.Time
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
			}
			b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/span")
		})
	}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
