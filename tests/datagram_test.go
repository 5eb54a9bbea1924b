package tests

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"clntrace/tests/recording"
)

func TestMalformedDatagramsAreCounted(t *testing.T) {
	whole := recording.Span{TraceID: "0123456789abcdef0123456789abcdef", ID: "0123456789abcdef", Name: "jsonrpc", Start: now(), Duration: time.Millisecond}
	with := func(change func(*recording.Span)) []byte {
		s := whole
		change(&s)
		return recording.New(s)
	}
	n, r := launchWith(t, nil)
	s := n.Senders(sender).Start("lightningd")
	sent := uint64(0)
	for _, tc := range []struct {
		name    string
		payload []byte
	}{
		{"empty", nil},
		{"one byte", []byte("[")},
		{"NUL", []byte{0}},
		{"text", []byte("hello")},
		{"empty array", []byte("[]")},
		{"empty object", []byte("{}")},
		{"array of an empty object", []byte("[{}]")},
		{"deeply nested", []byte(strings.Repeat("[", 100_000))},
		{"binary", []byte("\xff\xfe\x00\x01\x80[{\"id\":\"\xff")},
		{"span id of zeros", with(func(s *recording.Span) { s.ID = "0000000000000000" })},
		{"trace id of zeros", with(func(s *recording.Span) { s.TraceID = "00000000000000000000000000000000" })},
		{"no span id", []byte(strings.Replace(string(recording.New(whole)), `"id":"0123456789abcdef",`, "", 1))},
		{"span id that is not hex", with(func(s *recording.Span) { s.ID = "0123456789abcdeg" })},
		{"trace id that is not hex", with(func(s *recording.Span) { s.TraceID = "0123456789abcdef0123456789abcdeg" })},
		{"1970", with(func(s *recording.Span) { s.Start = time.Unix(0, 0) })},
		{"2300", with(func(s *recording.Span) { s.Start = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC) })},
		{"timestamp that is no number", []byte(strings.Replace(string(recording.New(whole)), `"timestamp":`, `"timestamp":x`, 1))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			send(t, s, tc.payload)
			sent++
			if got := received(t, n, sent).Datagrams; got.Malformed != sent || got.Accepted != 0 {
				t.Fatalf("after %d malformed datagrams: %+v", sent, got)
			}
		})
	}
	send(t, s, recording.New(whole))
	if got := r.WaitSpans(t, 1); len(got) != 1 || got[0].ID != whole.ID {
		t.Errorf("got %+v", got)
	}
}

// lightningd escapes nothing. Whatever is in a tag, the span arrives, as text
// that every backend takes.
func TestTextIsMadeValid(t *testing.T) {
	n, r := launchWith(t, nil)
	s := n.Senders(sender).Start("sql")
	for i, tc := range []struct {
		name, value string
		keeps       string // what must be left of it
	}{
		{"not UTF-8", "a\xff\xfeb", "b"},
		{"cut rune", "caf\xc3", "caf"},
		{"control characters", "a\x01\x1b[31mb\x7f", "b"},
		{"NUL inside", "a\x00b", "a"},
		{"newline", "a\nb", "b"},
		{"backslash", `C:\nonsense\q`, "nonsense"},
		{"lone surrogate", `a\ud800b`, "b"},
		{"quote", `say "hello" twice`, "say"},
		{"quote that looks like the end", `a"},"traceId":"ffffffffffffffffffffffffffffffff"}]`, "a"},
		{"markup", "<b>&</b>", "<b>&</b>"},
		{"emoji", "ünï☃😀", "ünï☃😀"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			span := recording.Span{
				TraceID: "0123456789abcdef0123456789abcdef", ID: "000000000000000" + string("123456789abcdef"[i]),
				Name: "db_query_prepared", Start: now(), Tags: map[string]string{"query": tc.value},
			}
			send(t, s, recording.New(span))
			got := r.WaitSpans(t, i+1)[i]
			if got.ID != span.ID {
				t.Fatalf("span id %s", got.ID)
			}
			if got.TraceID != span.TraceID && tc.name != "quote that looks like the end" {
				t.Errorf("trace id %s", got.TraceID)
			}
			text, _ := got.Attributes["db.query.text"].(string)
			if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x01\x1b\x7f") {
				t.Errorf("db.query.text = %q", text)
			}
			if !strings.Contains(text, tc.keeps) {
				t.Errorf("db.query.text = %q keeps no %q", text, tc.keeps)
			}
		})
	}
}

func TestTruncatedSpansAreExported(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, nil)
	senders := n.Senders(sender)
	datagrams := load(t, recording.Weird)
	senders.Replay(datagrams)
	arrived := byID(t, r.WaitSpans(t, len(datagrams)))
	for _, d := range datagrams {
		if !d.Truncated() {
			s, err := d.Span()
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := arrived[s.ID]; !ok || got.TraceID != s.TraceID || got.Attributes["cln.truncated"] != nil {
				t.Errorf("span %s, which is whole: %+v", s.ID, got)
			}
			continue
		}
		id := string(d.Payload[len(`[{"id":"`):][:16])
		got, ok := arrived[id]
		if !ok {
			t.Errorf("truncated span %s never arrived", id)
			continue
		}
		text, _ := got.Attributes["id"].(string)
		if got.Attributes["cln.truncated"] != true || got.ParentID != "" || !strings.HasSuffix(text, "…") || !utf8.ValidString(text) {
			t.Errorf("truncated span %s: %+v", id, got)
		}
	}
	if s := settled(t, n, uint64(len(datagrams))); s.Spans.Truncated != 4 || s.Spans.Repaired != 0 {
		t.Errorf("%d truncated, %d repaired", s.Spans.Truncated, s.Spans.Repaired)
	}
}

func TestTruncatedSpansAreRepaired(t *testing.T) {
	const trace = "0123456789abcdef0123456789abcdef"
	long := func(s recording.Span) []byte {
		s.TraceID, s.Start, s.Name = trace, now(), "db_query_prepared"
		s.Tags = map[string]string{"query": "SELECT " + strings.Repeat("c, ", 800) + "FROM t"}
		return append(recording.New(s)[:2047], 0) // as lightningd cuts it
	}
	whole := func(s recording.Span) []byte {
		s.TraceID, s.Start, s.Name = trace, now(), "jsonrpc"
		return recording.New(s)
	}
	const parent, child = "00000000000000aa", "00000000000000bb"
	for _, tc := range []struct {
		name     string
		payloads [][]byte
		lame     string // the truncated one
		parentOf map[string]string
	}{
		{"by the parent that follows", [][]byte{
			long(recording.Span{ID: child, ParentID: parent}), whole(recording.Span{ID: parent}),
		}, child, map[string]string{child: parent, parent: ""}},
		{"by the child that came before", [][]byte{
			whole(recording.Span{ID: child, ParentID: parent}), long(recording.Span{ID: parent}),
		}, parent, map[string]string{child: parent, parent: ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n, r := launchWith(t, nil)
			send(t, n.Senders(sender).Start("lightningd"), tc.payloads...)
			arrived := byID(t, r.WaitSpans(t, 2))
			for id, parentID := range tc.parentOf {
				if got := arrived[id]; got.TraceID != trace || got.ParentID != parentID {
					t.Errorf("span %s: trace %s, parent %s", id, got.TraceID, got.ParentID)
				}
			}
			if s := settled(t, n, 2).Spans; s.Truncated != 1 || s.Repaired != 1 {
				t.Errorf("%d truncated, %d repaired", s.Truncated, s.Repaired)
			}
		})
	}
}

func TestTruncatedSpanWithoutRelativesIsARoot(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, nil)
	payload := recording.New(recording.Span{
		TraceID: "0123456789abcdef0123456789abcdef", ID: "00000000000000bb", ParentID: "00000000000000aa", Name: "db_query_prepared", Start: now(),
		Tags: map[string]string{"query": "SELECT " + strings.Repeat("c, ", 800) + "FROM t"},
	})
	send(t, n.Senders(sender).Start("lightningd"), append(payload[:2047], 0))
	got := r.WaitSpans(t, 1)[0]
	if got.ID != "00000000000000bb" || got.ParentID != "" || got.Attributes["cln.truncated"] != true || got.Attributes["cln.parent.span_id"] != "00000000000000aa" {
		t.Errorf("got %+v", got)
	}
}
