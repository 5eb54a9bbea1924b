package recorder

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"clntrace/collector/cln"
)

// heap is how many bytes are in use, of what is reachable.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemory fills a Recorder with 16 MiB of spans of several forms, and compares what
// it says of its size with what it takes.
func TestMemory(t *testing.T) {
	const limit = 16 << 20
	wide := strings.Repeat("w", 1900)
	for _, tc := range []struct {
		name  string
		times int
		full  bool // all of the memory is used
		add   func(f *feed, i int)
	}{
		{"widest spans, as traces of one", 40_000, true, func(f *feed, i int) {
			f.root(fmt.Sprint("kind ", i%300), time.Duration(i), func(s *Span) {
				s.Failed = true
				s.Attributes = tags{attribute.String("id", fmt.Sprint(wide, i)), attribute.String(keyErrorType, fmt.Sprint(i%7))}
			})
		}},
		{"widest spans, in large traces", 60, true, func(f *feed, i int) {
			id := f.traceID()
			for n := range 400 {
				f.span(child(id, 2+n, 1, "inner", time.Duration(n)*time.Millisecond), func(s *Span) {
					s.Attributes = tags{attribute.String("id", fmt.Sprint(wide, i, n))}
				})
			}
			f.root(fmt.Sprint("kind ", i%300), time.Duration(i), func(s *Span) { s.TraceID = id })
			f.wait(time.Second)
		}},
		{"small traces that failed", 50_000, false, func(f *feed, i int) {
			f.root(fmt.Sprint("kind ", i%256), time.Duration(i*i%1000), failed(fmt.Sprint("reason ", i%9)))
			if i%5000 == 0 {
				f.wait(11 * time.Minute)
			}
		}},
		{"roots that never come", 50_000, false, func(f *feed, i int) {
			f.span(child(f.traceID(), 2, 1, "inner", time.Millisecond))
		}},
		{"commands that wait for their request", 40_000, true, func(f *feed, i int) {
			f.root(cln.SpanCommand, time.Duration(i), func(s *Span) {
				s.Detail = fmt.Sprint("method ", i%300)
				s.Attributes = tags{attribute.String("id", fmt.Sprint(wide, i))}
			})
		}},
		{"many tags", 5_000, false, func(f *feed, i int) {
			var list tags
			for n := range maxAttributes {
				list = append(list, attribute.Int(fmt.Sprint("k", n), i))
			}
			id := f.traceID()
			f.span(child(id, 2, 1, "inner", time.Millisecond), func(s *Span) { s.Attributes = list })
			f.root(fmt.Sprint("kind ", i%300), time.Duration(i), func(s *Span) { s.TraceID, s.Attributes = id, list })
			if i%100 == 0 {
				f.wait(time.Second)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := heap()
			f := newFeed(limit)
			for i := range tc.times {
				tc.add(f, i)
				if s := f.Status(); s.Bytes > limit {
					t.Fatalf("it says that it takes %d bytes", s.Bytes)
				}
			}
			s := f.Status()
			took := heap() - before
			t.Logf("%.1f MiB of %d traces, it says %.1f", float64(took)/(1<<20), s.Traces, float64(s.Bytes)/(1<<20))
			if took > limit*105/100 || tc.full && s.Bytes < limit*9/10 {
				t.Errorf("it takes %d bytes of %d, and says %d", took, limit, s.Bytes)
			}
			if float64(s.Bytes) < 0.9*float64(took) || float64(took) < 0.75*float64(s.Bytes) {
				t.Errorf("it takes %d bytes and says %d", took, s.Bytes)
			}
			runtime.KeepAlive(f)
		})
	}
}

// TestSums compares the sums that are kept with what they are of, after all that can
// change them.
func TestSums(t *testing.T) {
	f := newFeed(1 << 20)
	queries := make([]string, 500) // more than there is room for
	for i := range queries {
		queries[i] = fmt.Sprint("SELECT ", i)
	}
	for i := range 20_000 {
		id := f.traceID()
		if i%7 == 0 {
			binary.BigEndian.PutUint64(id[:], uint64(i/70)) // of one that came before, perhaps
		}
		for n := range i % 5 {
			f.span(child(id, 2+n, 1, fmt.Sprint("inner ", n), time.Duration(n)*time.Millisecond))
		}
		if i%5 == 0 {
			one := f.traceID()
			f.span(Span{TraceID: one, ID: spanID(1), Name: "of a form", Duration: int64(i % 1000)}, ofForm(queries[i/5%len(queries)]))
			if i%10 == 0 {
				f.span(child(one, 2, 1, "late", time.Millisecond))
			}
		}
		if i%3 > 0 {
			f.span(Span{TraceID: id, ID: spanID(1), Name: fmt.Sprint("kind ", i%300), Duration: int64(i % 1000), Failed: i%11 == 0, Added: i%13 == 0})
		}
		if i%3 == 0 {
			method, work := fmt.Sprint("method ", i%4), f.traceID()
			f.command(work, method)
			f.request(f.traceID(), method, work)
		}
		if i%100 == 0 {
			f.wait(time.Duration(i%400) * time.Second)
		}
	}
	for i := range 4 { // those before may have had to make room
		work := f.traceID()
		f.command(work, fmt.Sprint("method ", i))
		if i < 2 {
			f.request(f.traceID(), fmt.Sprint("method ", i), work)
		}
	}
	bytes, waits, spans := int64(singlesSize), int64(0), int64(0)
	kept, claimed, forms := make(map[*held]int), make(map[*held]int), make(map[*form]int)
	for _, known := range f.forms.known {
		forms[known]++
	}
	sums := make(map[*kind]int64)
	for _, known := range f.forms.known {
		sums[known.kind] += known.bytes
	}
	see := func(h *held) {
		if kept[h]++; kept[h] > 1 {
			return
		}
		if h.form != nil {
			if forms[h.form]++; forms[h.form] == 1 { // forms.known does not have it any more
				sums[h.kind] += h.form.bytes
			}
		}
		sums[h.kind] += h.bytes()
		spans += int64(len(h.spans))
		for _, by := range h.served {
			claimed[by]++
		}
	}
	for _, k := range f.order {
		sums[k] += k.fixed() + int64(len(k.serving))*servingSize
		for h := range k.traces() {
			see(h)
		}
		for _, h := range k.serving {
			see(h)
		}
	}
	for by, times := range claimed {
		for range times {
			see(by)
		}
	}
	if len(claimed) == 0 {
		t.Error("no request has claimed what served it")
	}
	for _, k := range f.order {
		if k.bytes != sums[k] {
			t.Errorf("kind %v has %d bytes, not %d", k.key, sums[k], k.bytes)
		}
		bytes += sums[k]
	}
	for h, lists := range kept {
		if int(h.refs) != lists || h.indexed != (f.byID[h.id] == h) {
			t.Fatalf("a trace is in %d lists, not %d; indexed: %v", lists, h.refs, h.indexed)
		}
	}
	for known, refs := range forms {
		if known.refs != refs {
			t.Fatalf("a form has %d references, not %d", refs, known.refs)
		}
	}
	for _, q := range []queue{f.waiting, f.rooted} {
		for h := q.first; h != nil; h = h.next {
			waits += h.bytes()
		}
	}
	for _, h := range slices.Concat(f.spares, f.formed) {
		bytes += h.bytes()
	}
	for _, b := range slices.Concat(f.drafts.class[:]...) {
		bytes += b.size()
	}
	bytes += int64(f.gone.Len()) * goneSize
	if f.bytes != bytes+waits || f.waits != waits || f.kept != len(kept) || f.spans != spans {
		t.Errorf("bytes %d, not %d; waiting %d, not %d; %d traces, not %d; %d spans, not %d",
			bytes+waits, f.bytes, waits, f.waits, len(kept), f.kept, spans, f.spans)
	}
}

// TestUniqueRoots sends roots whose names and ids nobody else has: as many as fill the
// memory many times over. BenchmarkUniqueRoots does it with any number.
func TestUniqueRoots(t *testing.T) {
	before := heap()
	f := newFeed(1 << 20)
	honest := f.root("xpay", time.Second, failed("no_route"))
	times := 300_000
	if testing.Short() {
		times /= 10
	}
	for i := range times {
		f.root(fmt.Sprint("made up ", i), time.Hour, failed(fmt.Sprint("reason ", i)))
	}
	if s := f.Status(); s.Bytes > s.LimitBytes || len(f.kinds) > maxKinds {
		t.Errorf("it takes %d bytes, for %d kinds", s.Bytes, len(f.kinds))
	}
	if took := heap() - before; took > 3<<19 {
		t.Errorf("it takes %d bytes", took)
	}
	f.find(t, honest)
}

// TestFlood shows that somebody who makes up kinds, ids and roots that never come
// costs the others neither their failed nor their slowest traces.
func TestFlood(t *testing.T) {
	f := newFeed(2 << 20)
	var honest []string
	for i := range 5 {
		honest = append(honest, f.root("xpay", time.Duration(i+1)*time.Second, failed("no_route")))
	}
	id := f.traceID()
	f.span(child(id, 2, 1, "inner", time.Second))
	f.span(Span{TraceID: id, ID: spanID(1), Name: "xpay", Duration: 9e6})
	f.wait(quietTime)
	honest = append(honest, id.String())
	wide := tags{attribute.String("x", strings.Repeat("x", 2000))}
	for i := range 20_000 {
		f.root(fmt.Sprint("made up ", i), time.Hour, func(s *Span) { s.Attributes = wide })
		f.span(child(f.traceID(), 2, 1, "made up", time.Hour), func(s *Span) { s.Attributes = wide })
		f.root(fmt.Sprint("made up ", i%100), time.Duration(i)*time.Second, func(s *Span) { s.Attributes = wide })
		f.root(fmt.Sprint("made up ", i%100), time.Duration(i)*time.Second, ofForm(fmt.Sprint(wide, i)))
		if s := f.Status(); s.Bytes > s.LimitBytes {
			t.Fatalf("it takes %d bytes", s.Bytes)
		}
	}
	for _, id := range honest {
		f.find(t, id)
	}
}
