package memory

import (
	"slices"
	"strings"
	"testing"

	"clntrace/collector/correlate"
	"clntrace/collector/zipkin"
)

func newSpan(name string, tags ...string) *correlate.Span {
	s := &correlate.Span{Span: zipkin.Span{Name: name}}
	for i := 0; i+1 < len(tags); i += 2 {
		s.Tags = append(s.Tags, zipkin.Tag{Key: tags[i], Value: tags[i+1]})
	}
	return s
}

// distinct returns a copy of s that shares no value of a tag with it.
func distinct(s *correlate.Span) *correlate.Span {
	c := *s
	c.Tags = slices.Clone(s.Tags)
	for i := range c.Tags {
		c.Tags[i].Value = strings.Clone(c.Tags[i].Value)
	}
	return &c
}

func TestBytesAreBounded(t *testing.T) {
	for _, large := range []*correlate.Span{
		newSpan("jsonrpc", "id", strings.Repeat("x", 2000)),
		newSpan("jsonrpc", strings.Repeat("x", 2000), ""),
		newSpan("jsonrpc", slices.Repeat([]string{"x", ""}, 300)...),
		newSpan(strings.Repeat("x", 2000)),
		newSpan("db_query_prepared", "query", strings.Repeat("x", 2000)),
	} {
		r := NewRoom(1<<30, 200)
		n := 0
		for r.Take(distinct(large)) {
			n++
		}
		if most := maxBytes / 2000; n > most || n < most/6 || int64(n) != r.Spans() {
			t.Errorf("%d spans of some 2,000 bytes or more have room", n)
		}
		if !r.HalfFull() {
			t.Error("the room is not half full")
		}
	}
}

func TestNumberIsBounded(t *testing.T) {
	r := NewRoom(10, 0)
	r.SetLimit(4)
	s := newSpan("a")
	for n := range 6 {
		if got, want := r.Take(s), n < 4; got != want {
			t.Errorf("span %d has room: %v, want %v", n, got, want)
		}
		if got, want := r.HalfFull(), n >= 2; got != want {
			t.Errorf("after span %d half full: %v, want %v", n, got, want)
		}
	}
}

func TestSharedTextIsCountedOnce(t *testing.T) {
	r := NewRoom(1000, 0)
	statement := strings.Repeat("x", 1000)
	first, second := newSpan("db_query_prepared", "query", statement), newSpan("db_query_prepared", "query", statement)
	r.Take(first)
	one := r.Bytes()
	r.Take(second)
	if two := r.Bytes(); one < 1000 || two-one >= 1000 {
		t.Errorf("one span takes %d bytes, both %d", one, two)
	}
	r.Release(first)
	if r.Bytes() != one {
		t.Errorf("the other one alone takes %d bytes, not %d", r.Bytes(), one)
	}
	r.Release(second)
	if r.Bytes() != 0 || r.Spans() != 0 || len(r.shared.users) != 0 {
		t.Errorf("with no span left %d bytes are taken, %d texts are held", r.Bytes(), len(r.shared.users))
	}
}

// The tags of many spans share memory. What is left of a span there would keep its
// texts for as long as any of the others waits.
func TestReleasedSpanKeepsNoText(t *testing.T) {
	r := NewRoom(2, 0)
	slab := []zipkin.Tag{{Key: "id", Value: "first"}, {Key: "id", Value: "second"}}
	first, second := newSpan("a"), newSpan("b")
	first.Tags, second.Tags = slab[:1], slab[1:]
	if !r.Take(first) || !r.Take(second) {
		t.Fatal("no room for two spans")
	}
	r.Release(first)
	if slab[0] != (zipkin.Tag{}) || slab[1].Value != "second" {
		t.Errorf("the shared memory holds %q", slab)
	}
	if r.Release(second); r.Bytes() != 0 {
		t.Errorf("%d bytes are left", r.Bytes())
	}
}

func BenchmarkTakeAndRelease(b *testing.B) {
	r := NewRoom(1000, 200)
	s := newSpan("db_query_prepared", "query", strings.Repeat("x", 200))
	r.Take(s)
	b.ReportAllocs()
	for b.Loop() {
		r.Take(s)
		r.Release(s)
	}
}
