package parents

import (
	"encoding/binary"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/process"
	"clntrace/collector/zipkin"
)

var epoch = time.Unix(1795324398, 0)

func spanID(n uint64) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

func TestMissingParentsAreCounted(t *testing.T) {
	p, other := &process.Identity{PID: 1}, &process.Identity{PID: 2}
	type event struct {
		at         time.Duration
		process    *process.Identity
		id, parent uint64
	}
	for _, tc := range []struct {
		what   string
		events []event
		want   int64
	}{
		{"parent in time", []event{{0, p, 1, 2}, {59 * time.Second, p, 2, 0}}, 0},
		{"parent late", []event{{0, p, 1, 2}, {61 * time.Second, p, 2, 0}}, 1},
		{"several children", []event{{0, p, 1, 9}, {0, p, 2, 9}, {time.Second, p, 3, 9}}, 3},
		{"a parent that is missing its own", []event{{0, p, 1, 2}, {0, p, 2, 3}}, 1},
		{"the same id in another process", []event{{0, p, 1, 2}, {0, other, 2, 0}}, 1},
		{"the parent that nobody sends", []event{{0, p, 1, 99}}, 0},
	} {
		t.Run(tc.what, func(t *testing.T) {
			a := New(spanID(99))
			var got int64
			for _, e := range tc.events {
				now := epoch.Add(e.at)
				got += a.Expire(now)
				a.Observe(e.process, &zipkin.Span{ID: spanID(e.id), ParentID: spanID(e.parent)}, now)
			}
			if got += a.Expire(epoch.Add(3 * time.Minute)); got != tc.want {
				t.Errorf("%d are missing, want %d", got, tc.want)
			}
			if len(a.children) != 0 || len(a.queue) != a.head {
				t.Errorf("%d parents are still awaited", len(a.children))
			}
		})
	}
}

func TestRelativesTellTheirTrace(t *testing.T) {
	p := &process.Identity{PID: 1}
	id := trace.TraceID{1}
	for _, tc := range []struct {
		what          string
		before, after zipkin.Span
		want          trace.TraceID
	}{
		{"a child", zipkin.Span{TraceID: id, ID: spanID(1), ParentID: spanID(2)}, zipkin.Span{ID: spanID(2)}, id},
		{"a sibling", zipkin.Span{TraceID: id, ID: spanID(1), ParentID: spanID(2)}, zipkin.Span{ID: spanID(3), ParentID: spanID(2)}, id},
		{"a child that was cut, too", zipkin.Span{ID: spanID(1), ParentID: spanID(2)}, zipkin.Span{ID: spanID(2)}, trace.TraceID{}},
		{"a stranger", zipkin.Span{TraceID: id, ID: spanID(1), ParentID: spanID(2)}, zipkin.Span{ID: spanID(4)}, trace.TraceID{}},
	} {
		a := New(trace.SpanID{})
		a.Observe(p, &tc.before, epoch)
		if got := a.Observe(p, &tc.after, epoch); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.what, got, tc.want)
		}
	}
}

func TestAwaitedParentsAreBounded(t *testing.T) {
	p := &process.Identity{PID: 1}
	a := New(trace.SpanID{})
	for i := range maxAwaited + 100 {
		a.Observe(p, &zipkin.Span{ID: spanID(uint64(2*i + 1)), ParentID: spanID(uint64(2*i + 2))}, epoch)
	}
	if len(a.children) > maxAwaited || len(a.queue) > maxAwaited {
		t.Errorf("%d parents are awaited by %d children", len(a.children), len(a.queue))
	}
}

// As in a recording: one of six spans is a child, and nearly all parents come.
func BenchmarkObserve(b *testing.B) {
	p := &process.Identity{PID: 1}
	a := New(trace.SpanID{})
	b.ReportAllocs()
	now, i := epoch, uint64(0)
	for b.Loop() {
		i++
		now = now.Add(50 * time.Microsecond)
		s := zipkin.Span{TraceID: trace.TraceID{1}, ID: spanID(i)}
		if i%6 == 0 {
			s.ParentID = spanID(i + 1)
		}
		a.Observe(p, &s, now)
		if i%1000 == 0 {
			a.Expire(now)
		}
	}
}
