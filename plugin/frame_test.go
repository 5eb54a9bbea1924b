package plugin

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestSplitter(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string // with a ! before garbage
	}{
		{"two messages", "{\"a\":1}\n\n{\"b\":2}\n\n", []string{`{"a":1}`, `{"b":2}`}},
		{"nothing between", `{"a":1}{"b":2}`, []string{`{"a":1}`, `{"b":2}`}},
		{"blank line inside", "{\"a\":\n\n[1,\n\n2]}\n\n{}", []string{"{\"a\":\n\n[1,\n\n2]}", "{}"}},
		{"a whole message inside", "{\"params\":[\n\n{\"jsonrpc\":\"2.0\"}\n\n]}\n\n{}", []string{"{\"params\":[\n\n{\"jsonrpc\":\"2.0\"}\n\n]}", "{}"}},
		{"raw newlines in a string", "{\"a\":\"x\n\ny\"}\n\n{}", []string{"{\"a\":\"x\n\ny\"}", "{}"}},
		{"brackets in a string", `{"a":"}]\"}"}{}`, []string{`{"a":"}]\"}"}`, "{}"}},
		{"backslash before the end of a string", `{"a":"\\"}{}`, []string{`{"a":"\\"}`, "{}"}},
		{"not JSON", "hello {\nworld\n\n{}\n\n", []string{"!hello {\nworld\n", "{}"}},
		{"an array", "[1]\n\n{}", []string{"![1]\n", "{}"}},
		{"a torn message", "{\"a\":1\n\n{\"b\":2}\n\n", []string{"!{\"a\":1\n\n", `{"b":2}`}},
		{"a broken message", "{\"a\": broken\n\n{\"b\":2}\n\n", []string{"!{\"a\": broken\n\n", `{"b":2}`}},
		{"end inside", `{}{"a":`, []string{"{}"}},
		{"white space only", " \n\n\t\r\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSplitter(iotest.OneByteReader(strings.NewReader(tt.in)))
			var got []string
			for {
				f, err := s.next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				text := string(f.body)
				if f.garbage {
					text = "!" + text
				}
				got = append(got, text)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSplitterIsBounded(t *testing.T) {
	long := `{"a":"` + strings.Repeat("x", maxRequest) + `"}`
	s := newSplitter(strings.NewReader(long + "\n\n{}"))
	f, err := s.next()
	if err != nil || len(f.body) != maxRequest || f.dropped != len(long)-maxRequest {
		t.Errorf("got %d bytes, %d dropped, %v", len(f.body), f.dropped, err)
	}
	if f, err = s.next(); err != nil || string(f.body) != "{}" {
		t.Errorf("the next message is %q, %v", f.body, err)
	}
}

func TestMembers(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want map[string]string
	}{
		{`{"id":"a","method":"m","params":{"id":1}}`, map[string]string{"id": `"a"`, "method": `"m"`, "params": `{"id":1}`}},
		{"{ \"id\" : 1 ,\n\"x\":[ {\"id\":2} ] }", map[string]string{"id": "1", "x": `[ {"id":2} ]`}},
		{`{"id":"first","id":"second","ID":"third"}`, map[string]string{"id": `"first"`, "ID": `"third"`}},
		{`{"id":"\"}\\","b":null}`, map[string]string{"id": `"\"}\\"`, "b": "null"}},
		{`{"q":0x400,"id":1}`, map[string]string{"q": "0x400", "id": "1"}},
		{`{"id":7,"cut":"off`, map[string]string{"id": "7"}},
		{`{"id":7,"cut`, map[string]string{"id": "7"}},
		{`{}`, map[string]string{}},
		{`{"id"}`, map[string]string{}},
		{`{"id":}`, map[string]string{}},
		{``, map[string]string{}},
	} {
		got := make(map[string]string)
		for k, v := range members([]byte(tt.in)) {
			got[k] = string(v)
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("members(%s) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

func TestQuoteBare(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":0x400}`:              `{"a":"0x400"}`,
		`{"a":010,"b":+5,"c":-7}`:  `{"a":"010","b":"+5","c":"-7"}`,
		`[true,null,truffle,1e3]`:  `[true,null,"truffle","1e3"]`,
		`{"s":"0x400, \"010\" "}`:  `{"s":"0x400, \"010\" "}`,
		`[123456789012345678901]`:  `["123456789012345678901"]`,
		`{"a":"cut`:                `{"a":"cut`,
		"{\"a\" : [ 1 , 0x2 ]\n }": "{\"a\" : [ \"1\" , \"0x2\" ]\n }",
	} {
		if got := string(quoteBare([]byte(in))); got != want {
			t.Errorf("quoteBare(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestUnescapePlain(t *testing.T) {
	for in, want := range map[string]string{
		`"\u003cb\u003e \u0026"`: `"<b> &"`,
		`"\\u003c"`:              `"\\u003c"`,
		`"\\\u003c"`:             `"\\<"`,
		`"\n\"\u0001"`:           `"\n\"\u0001"`,
		`"\u2028"`:               "\"\u2028\"",
		`"\u003`:                 `"\u003`,
		`\`:                      `\`,
	} {
		if got := string(unescapePlain([]byte(in))); got != want {
			t.Errorf("unescapePlain(%s) = %s, want %s", in, got, want)
		}
	}
}

// sameTexts reports whether quoted is object, with the text of each number as a string.
func sameTexts(quoted, object []byte) bool {
	var got, want any
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	return json.Unmarshal(quoted, &got) == nil && d.Decode(&want) == nil && reflect.DeepEqual(got, withoutNumbers(want))
}

func withoutNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case []any:
		for i := range v {
			v[i] = withoutNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = withoutNumbers(v[k])
		}
	}
	return v
}

// FuzzFrames holds the hand-made scanners against encoding/json.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":"cln:init#44","method":"init","params":{"options":{"a":0x400}}}`,
		"{\"id\":\"\\\\\",\"a\":[{}]}\n\n{\"b\":\"\n\n\"}", "garbage\n\n{}", `{"a":`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newSplitter(bytes.NewReader(data))
		for {
			fr, err := s.next()
			if err != nil {
				break
			}
			m := members(fr.body)
			quoteBare(fr.body)
			var want map[string]json.RawMessage
			if fr.garbage || json.Unmarshal(fr.body, &want) != nil {
				continue
			}
			for _, raw := range m {
				if !json.Valid(raw) {
					t.Errorf("member %q of %q is not JSON", raw, fr.body)
				}
			}
			if quoted := quoteBare(fr.body); !sameTexts(quoted, fr.body) {
				t.Errorf("quoteBare changed JSON %q to %q", fr.body, quoted)
			}
			if !json.Valid(rewrap(m, "1")) {
				t.Errorf("rewrap of %q is not JSON", fr.body)
			}
		}
		if json.Valid(data) {
			var before, after any
			_ = json.Unmarshal(data, &before)
			if err := json.Unmarshal(unescapePlain(data), &after); err != nil || !reflect.DeepEqual(before, after) {
				t.Errorf("unescapePlain changed the meaning of %q: %v", data, err)
			}
		}
	})
}

func TestSplitterSurvivesDepth(t *testing.T) {
	const depth = 2 * maxRequest
	s := newSplitter(strings.NewReader(`{"a":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + "}\n\n{}"))
	if f, err := s.next(); err != nil || f.dropped == 0 {
		t.Errorf("got %d bytes dropped, %v", f.dropped, err)
	}
	if f, err := s.next(); err != nil || string(f.body) != "{}" {
		t.Errorf("the next message is %q, %v", f.body, err)
	}
}
