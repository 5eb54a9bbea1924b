package zipkin

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"clntrace/collector/recording"
)

// recordings returns all datagrams that are there to test with.
func recordings(t testing.TB) []recording.Datagram {
	t.Helper()
	files, err := filepath.Glob("../../tests/testdata/*.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	var all []recording.Datagram
	for _, file := range files {
		list, err := recording.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, list...)
	}
	for _, load := range []func() ([]recording.Datagram, error){recording.Startup, recording.Xpay} {
		list, err := load()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, list...)
	}
	return all
}

// encode writes s as trace_emit of common/trace.c does, without the cut.
func encode(s *Span) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `[{"id":"%s","name":"%s","timestamp":%d,"duration":%d,"localEndpoint":{"serviceName":"%s"},`,
		s.ID, s.Name, s.Timestamp, s.Duration, s.ServiceName)
	if s.ParentID.IsValid() {
		fmt.Fprintf(&b, `"parentId":"%s",`, s.ParentID)
	}
	b.WriteString(`"tags":{`)
	for i, tag := range s.Tags {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, `"%s":"%s"`, tag.Key, tag.Value)
	}
	fmt.Fprintf(&b, `},"traceId":"%s"}]`, s.TraceID)
	return b.Bytes()
}

// cut shortens a datagram as snprintf does with a buffer of size bytes.
func cut(datagram []byte, size int) []byte {
	if len(datagram) < size {
		return datagram
	}
	return append(bytes.Clone(datagram[:size-1]), 0)
}

func TestEveryRecordedDatagramDecodesToWhatEncodesToItAgain(t *testing.T) {
	var d Decoder
	whole, truncated := 0, 0
	for _, r := range recordings(t) {
		var s Span
		if err := d.Decode(r.Payload, &s); err != nil {
			t.Fatalf("%v: %q", err, r.Payload)
		}
		if s.Truncated {
			truncated++
			if !strings.HasSuffix(s.Tag("id"), "…") || s.Name != "jsonrpc" || s.Duration == 0 {
				t.Errorf("a cut span lost more than its end: %+v", s)
			}
			continue
		}
		whole++
		if got := encode(&s); !bytes.Equal(got, r.Payload) {
			t.Fatalf("got  %q\nwant %q", got, r.Payload)
		}
	}
	if truncated != 4 || whole < 2000 {
		t.Errorf("%d whole and %d truncated datagrams in the recordings, want over 2000 and 4", whole, truncated)
	}
}

const (
	head  = `[{"id":"00000000000000a1","name":"jsonrpc","timestamp":1795324398371053,"duration":501,"localEndpoint":{"serviceName":"lightningd"},`
	after = `,"traceId":"f785be16bec33e74c781802989720fde"}]`
)

func TestUnescapedText(t *testing.T) {
	for _, tc := range []struct{ what, tags, want string }{
		{"none", `{}`, ""},
		{"quotes", `{"id":"a"b""}`, `id=a"b"`},
		{"only a quote", `{"id":"""}`, `id="`},
		{"empty", `{"id":""}`, `id=`},
		{"backslash", `{"id":"a\nb\"}`, `id=a\nb\`},
		{"two", `{"id":"x", "error":"true"}`, `id=x error=true`},
		{"quotes and two", `{"id":"x"y", "z", "error":"true"}`, `id=x"y", "z error=true`},
		{"what looks like a tag, and two", `{"id":"x", "error":"true/y", "error":"false"}`, `id=x", "error":"true/y error=false`},
		{"braces", `{"id":"},"traceId":"0"}`, `id=},"traceId":"0`},
		{"control characters", "{\"id\":\"a\x00b\nc\x7f\"}", "id=a\ufffdb\ufffdc\ufffd"},
		{"no UTF-8", "{\"id\":\"a\xff\xc3\"}", "id=a\ufffd\ufffd"},
		{"UTF-8", `{"id":"ünï☃😀"}`, "id=ünï☃😀"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var s Span
			if err := new(Decoder).Decode([]byte(head+`"tags":`+tc.tags+after), &s); err != nil {
				t.Fatal(err)
			}
			if got := tagsOf(&s); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if s.TraceID.String() != "f785be16bec33e74c781802989720fde" || s.Truncated {
				t.Errorf("trace id %s, truncated %v", s.TraceID, s.Truncated)
			}
		})
	}
}

// What a client has put into an id is hidden with the id, so no part of it may become
// another tag.
func TestWhatLooksLikeATagInAValue(t *testing.T) {
	for _, tc := range []struct{ what, tags, want string }{
		{"unanswered", `"id":"a", "x":"y"}`, `id=a", "x":"y`},
		{"answered", `"id":"a", "x":"y", "error":"false"}`, `id=a", "x":"y error=false`},
		{"path", `"id":"a", "x":"y/cln:b#1/p:c#2"}`, `id=a", "x":"y/cln:b#1/p:c#2`},
		{"error that is none", `"id":"a", "error":"x"}`, `id=a", "error":"x`},
		{"error and more", `"id":"a", "error":"truex"}`, `id=a", "error":"truex`},
		{"empty error", `"id":"a", "error":""}`, `id=a", "error":"`},
		{"as if answered", `"id":"a", "x":"y", "error":"true"}`, `id=a", "x":"y error=true`}, // cannot be told apart
		{"method", `"method":"a", "error":"true"}`, `method=a", "error":"true`},
		{"query", `"query":"a", "x":"y"}`, `query=a", "x":"y`},
		{"another plugin's tags", `"a":"b", "c":"d"}`, `a=b c=d`},

		{"cut", `"id":"a", "x":"y` + "\x00", `id=a", "x":"y…`},
		{"cut in a key", `"id":"a", "x` + "\x00", `id=a", "x…`},
		{"cut before a value", `"id":"a", "x":"` + "\x00", `id=a", "x":`},
		{"cut before a key", `"id":"a", "` + "\x00", `id=a`},
		{"cut in error", `"id":"a", "err` + "\x00", `id=a`},
		{"cut in what is not error", `"id":"a", "errx` + "\x00", `id=a", "errx…`},
		{"cut in error's value", `"id":"a", "error":"fal` + "\x00", `id=a error=fal…`},
		{"cut in what is not error's value", `"id":"a", "error":"fax` + "\x00", `id=a", "error":"fax…`},
		{"cut after error", `"id":"a", "x":"y", "error":"true"},"tra` + "\x00", `id=a", "x":"y error=true`},
		{"cut in the trace id", `"id":"a", "x":"y"},"traceId":"f7` + "\x00", `id=a", "x":"y`},
		{"query that is cut", `"query":"a", "x` + "\x00", `query=a", "x…`},
		{"another plugin's key that is cut", `"a":"b", "c` + "\x00", `a=b`},
		{"another plugin's value that is cut", `"a":"b", "c":"d` + "\x00", `a=b c=d…`},
		{"cut in the first key", `"i` + "\x00", ""},
		{"cut before the first value", `"id":"` + "\x00", ""},
	} {
		t.Run(tc.what, func(t *testing.T) {
			datagram := head + `"tags":{` + tc.tags
			if !strings.HasSuffix(datagram, "\x00") {
				datagram += after
			}
			var s Span
			if err := new(Decoder).Decode([]byte(datagram), &s); err != nil {
				t.Fatal(err)
			}
			if got := tagsOf(&s); got != tc.want || len(s.Tags) > 0 && s.Tags[0].Key == "" {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// Whatever an id is made of and wherever the span is cut, no other tag shows any of it.
func TestNoPartOfAnIDIsInAnotherTag(t *testing.T) {
	pieces := []string{"S3CRET", `"`, `", "`, `", "error":"`, `", "x":"`, `true`, `"},"traceId":"`, `:`}
	n := len(pieces)
	for i := range n * n * n {
		value := pieces[i%n] + pieces[i/n%n] + pieces[i/n/n]
		for _, answer := range []string{"", `", "error":"false`} {
			tags := `"tags":{"id":"` + value + answer + `"}`
			whole := []byte(head + tags + after)
			for size := len(head) + 1; size <= len(whole)+1; size++ {
				var s Span
				if err := new(Decoder).Decode(cut(whole, size), &s); err != nil {
					t.Fatalf("%v: %q", err, cut(whole, size))
				}
				for j, tag := range s.Tags {
					isError := tag.Key == "error" && (strings.HasPrefix("true", strings.TrimSuffix(tag.Value, "…")) ||
						strings.HasPrefix("false", strings.TrimSuffix(tag.Value, "…")))
					if j == 0 && tag.Key != "id" || j > 0 && !isError {
						t.Fatalf("tag %s=%q of %q", tag.Key, tag.Value, cut(whole, size))
					}
				}
			}
		}
	}
}

func tagsOf(s *Span) string {
	var tags []string
	for _, tag := range s.Tags {
		tags = append(tags, tag.Key+"="+tag.Value)
	}
	return strings.Join(tags, " ")
}

func TestCutAtEveryByte(t *testing.T) {
	whole := []byte(head + `"parentId":"00000000000000b2","tags":{"id":"cli:é#1/cln:x#2", "error":"true"}` + after)
	var want Span
	if err := new(Decoder).Decode(whole, &want); err != nil {
		t.Fatal(err)
	}
	fixed := bytes.Index(whole, []byte(`,"localEndpoint"`)) // up to here nothing can be missing
	parent := bytes.Index(whole, []byte(`"tags"`))
	for size := fixed + 1; size <= len(whole); size++ {
		var s Span
		if err := new(Decoder).Decode(cut(whole, size), &s); err != nil {
			t.Fatalf("%v: %q", err, cut(whole, size))
		}
		if s.ID != want.ID || s.Name != want.Name || s.Timestamp != want.Timestamp || s.Duration != want.Duration {
			t.Errorf("cut at %d: %+v", size, s)
		}
		if size > parent && s.ParentID != want.ParentID {
			t.Errorf("cut at %d: parent %s", size, s.ParentID)
		}
		if !s.Truncated && s.TraceID != want.TraceID {
			t.Errorf("cut at %d: trace id %s of a span that is not truncated", size, s.TraceID)
		}
		for _, tag := range s.Tags {
			full := want.Tag(tag.Key)
			if kept, was := strings.CutSuffix(tag.Value, "…"); tag.Value != full && (!was || !strings.HasPrefix(full, kept)) {
				t.Errorf("cut at %d: tag %s is %q, which is not the beginning of %q", size, tag.Key, tag.Value, full)
			}
		}
	}
}

func TestCutThatTookOnlyTheBracketsLosesNothing(t *testing.T) {
	whole := []byte(head + `"tags":{"id":"x"}` + after)
	for size := len(whole) - 2; size < len(whole); size++ {
		var s Span
		if err := new(Decoder).Decode(cut(whole, size), &s); err != nil || s.Truncated || !s.TraceID.IsValid() {
			t.Errorf("cut at %d of %d: %v, %+v", size, len(whole), err, s)
		}
	}
}

func TestMalformed(t *testing.T) {
	valid := head + `"tags":{}` + after
	replace := func(old, new string) string { return strings.Replace(valid, old, new, 1) }
	for _, tc := range []struct {
		what, datagram string
		want           error
	}{
		{"empty", "", ErrForm},
		{"garbage", "garbage", ErrForm},
		{"no span", "[]", ErrForm},
		{"two spans", "[" + strings.Repeat(strings.Trim(valid, "[]")+",", 2) + "{}]", ErrForm},
		{"no array", strings.Trim(valid, "[]"), ErrForm},
		{"cut but not by a sender", valid[:len(valid)-1], ErrForm},
		{"span id of zeros", replace("00000000000000a1", "0000000000000000"), ErrID},
		{"no span id", replace(`"id":"00000000000000a1",`, ""), ErrID},
		{"no trace id", replace(after, "}]"), ErrID},
		{"trace id of zeros", replace("f785be16bec33e74c781802989720fde", strings.Repeat("0", 32)), ErrID},
		{"trace id that is no number", replace("f785be16", "g785be16"), ErrID},
		{"parent of zeros", replace(`"tags"`, `"parentId":"0000000000000000","tags"`), ErrID},
		{"the year 1970", replace("1795324398371053", "1000000"), ErrTime},
		{"the year 2300", replace("1795324398371053", "10413792000000000"), ErrTime},
		{"ends after 2262", replace(":501", ":999999999999999999"), ErrTime},
		{"more digits than any time", replace(":501", ":99999999999999999999"), ErrForm},
		{"negative duration", replace(":501", ":-1"), ErrTime},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var s Span
			if err := new(Decoder).Decode([]byte(tc.datagram), &s); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v for %s", err, tc.want, tc.datagram)
			}
		})
	}
}

// A span during which the clock was set back has a duration above 2^63, for lightningd
// prints the difference without a sign. It is a span all the same.
func TestClockSetBack(t *testing.T) {
	valid := head + `"tags":{}` + after
	for what, datagram := range map[string]string{
		"whole":             valid,
		"cut by lightningd": head + `"tags":{"query":"SELECT` + "\x00",
		"other JSON":        strings.Replace(valid, `"name"`, ` "name"`, 1),
	} {
		for _, duration := range []string{"18446744073709551615", "18446744073709550616", "9223372036854775808"} {
			var s Span
			if err := new(Decoder).Decode([]byte(strings.Replace(datagram, "501", duration, 1)), &s); err != nil || s.Duration != 0 || s.Name != "jsonrpc" {
				t.Errorf("%s: %s: got %+v, %v", what, duration, s, err)
			}
		}
	}
}

func TestOtherJSON(t *testing.T) {
	const datagram = `[ {"traceId":"c781802989720fde","tags":{"id":"a\"\u0007b","error":"false"},"name":"jsonrpc",
		"id":"00000000000000a1","duration":5,"timestamp":1795324398371053,"localEndpoint":{"serviceName":"x"},"kind":"CLIENT"} ]`
	var s Span
	if err := new(Decoder).Decode([]byte(datagram), &s); err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(&s); got != "error=false id=a\"\ufffdb" {
		t.Errorf("tags %q", got)
	}
	if s.TraceID.String() != "0000000000000000c781802989720fde" || s.ServiceName != "x" || s.Duration != 5 {
		t.Errorf("got %+v", s)
	}
}

func TestDecodedSpanKeepsNothingOfTheDatagram(t *testing.T) {
	var d Decoder
	var s Span
	datagram := []byte(head + `"tags":{"id":"x", "method":"getinfo"}` + after)
	if err := d.Decode(datagram, &s); err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprintf("%+v", s)
	for i := range datagram {
		datagram[i] = '!'
	}
	if now := fmt.Sprintf("%+v", s); now != before {
		t.Errorf("the span changed with the datagram's buffer: %s", now)
	}
}

func TestInternerIsBounded(t *testing.T) {
	var in interner
	text := make([]byte, 2000)
	for i := range 5000 {
		copy(text, fmt.Sprint(i))
		in.intern(text)
		if in.bytes > maxInterned {
			t.Fatalf("holds %d bytes after %d texts", in.bytes, i)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for i, r := range recordings(f) {
		if i%40 == 0 || len(r.Payload) > 1500 {
			f.Add(r.Payload)
			f.Add(cut(r.Payload, len(r.Payload)-20))
		}
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var s Span
		if new(Decoder).Decode(datagram, &s) != nil {
			return
		}
		if !s.ID.IsValid() || s.TraceID.IsValid() == s.Truncated || s.Duration < 0 || s.Timestamp <= 0 || s.End().Before(s.Start()) {
			t.Errorf("not a valid span: %+v", s)
		}
		texts := []string{s.Name, s.ServiceName}
		for _, tag := range s.Tags {
			texts = append(texts, tag.Key, tag.Value)
		}
		for _, text := range texts {
			if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("text that OTLP cannot carry: %q", text)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	all := recordings(b)
	var d Decoder
	var s Span
	for i := range all { // the texts that recur are known in steady state
		if err := d.Decode(all[i].Payload, &s); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := d.Decode(all[i].Payload, &s); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(all) {
			i = 0
		}
	}
}

// An id that is broken half way is none: its first half would be taken for one.
func TestHalfAnIDIsNone(t *testing.T) {
	for _, tc := range []struct{ what, datagram string }{
		{"trace id", head + `"tags":{},"traceId":"f785be16bec33e74c7818029897200zz"}` + "\x00"},
		{"parent id", head + `"parentId":"00000000000a00zz","tags":{"id":"x` + "\x00"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var s Span
			if err := new(Decoder).Decode([]byte(tc.datagram), &s); err != nil {
				t.Fatal(err)
			}
			if s.TraceID.IsValid() || s.ParentID.IsValid() || !s.Truncated {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// A hostile datagram has room for hundreds of tags, each of which would cost memory
// until it is exported.
func TestTagsAreBounded(t *testing.T) {
	tags := make([]string, 290)
	for i := range tags {
		tags[i] = fmt.Sprintf(`"t%03d": "v"`, i)
	}
	datagram := `[ {"traceId":"00000000000000000000000000000001","id":"0000000000000002","name":"n","timestamp":1795000000000000,"duration":1,"tags":{` +
		strings.Join(tags, ",") + `}}]`
	var s Span
	if err := new(Decoder).Decode([]byte(datagram), &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Tags) != 16 || cap(s.Tags) != 16 || s.Tags[0].Key != "t000" || s.Tags[15].Key != "t015" {
		t.Errorf("%d tags with room for %d: %v", len(s.Tags), cap(s.Tags), s.Tags)
	}
}
