package correlate

import (
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/parents"
	"clntrace/collector/recording"
	"clntrace/collector/zipkin"
)

var numbers = regexp.MustCompile(`#(\d+)`)

// paymentsInARow returns the spans of that many payments, one after another, with the
// numbers and ids that each of them would have.
func paymentsInARow(b testing.TB, count int) []*Span {
	list, err := recording.Xpay()
	if err != nil {
		b.Fatal(err)
	}
	one := decode(b, list)
	length := one[len(one)-1].Timestamp - one[0].Timestamp + 10_000
	var all []*Span
	for i := range count {
		for _, s := range one {
			s := new(*s)
			s.Timestamp += int64(i) * length
			s.TraceID[0], s.ID[0], s.ID[1] = byte(i), byte(i), byte(i>>8)
			if s.ParentID.IsValid() {
				s.ParentID[0], s.ParentID[1] = byte(i), byte(i>>8)
			}
			if id := s.Tag(cln.TagID); id != "" {
				id = numbers.ReplaceAllStringFunc(id, func(n string) string {
					old, _ := strconv.Atoi(n[1:])
					return "#" + strconv.Itoa(old+i*12)
				})
				tags := append([]zipkin.Tag(nil), s.Tags...)
				for j := range tags {
					if tags[j].Key == cln.TagID {
						tags[j].Value = id
					}
				}
				s.Tags = tags
			}
			all = append(all, s)
		}
	}
	return all
}

// BenchmarkPayments correlates payments at 16,000 spans a second, and tells how much
// memory is in use then.
func BenchmarkPayments(b *testing.B) {
	spans := paymentsInARow(b, 200)
	before := liveHeap()
	var c *Correlator
	awaited := parents.New(trace.SpanID{})
	now := epoch
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i%len(spans) == 0 {
			c = New(Options{Run: run})
		}
		s := *spans[i%len(spans)]
		now = now.Add(62 * time.Microsecond)
		s.Relative = awaited.Observe(s.Process, &s.Span, now)
		c.Add(&s, now)
		if i++; i%64 == 0 {
			c.Ready()
		}
		if i%1600 == 0 {
			c.Expire(now)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(int64(liveHeap())-int64(before))/(1<<20), "MiB")
	runtime.KeepAlive(c)
}
