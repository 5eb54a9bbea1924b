package text

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestNumber(t *testing.T) {
	for n, want := range map[int64]string{-1: "-1 spans are", 0: "0 spans are", 1: "1 span is", 21: "21 spans are"} {
		if got := Number(n, "span is", "spans are"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestClip(t *testing.T) {
	for _, tc := range []struct {
		text string
		most int
		want string
	}{
		{"", 3, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc"},
		{"ab☃", 5, "ab☃"},
		{"ab☃", 4, "ab"},
		{"☃", 2, ""},
		{"\x80\x80\x80", 2, ""},
	} {
		if got := Clip(tc.text, tc.most); got != tc.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", tc.text, tc.most, got, tc.want)
		}
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"as it is: ünï ☃": "as it is: ünï ☃",
		"<a href=\"x\">&": "<a href=\"x\">&",
		"tab\tline\nnext": "tab line next",
		"\x1b[31mred\x00": "?[31mred?",
		"\xff\u202e":      "\ufffd?",
	} {
		if got := Plain(text); got != want {
			t.Errorf("Plain(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 999 * time.Millisecond: "0s", 45 * time.Second: "45s", time.Minute: "1m", 61 * time.Second: "1m1s",
		66*time.Minute + 40*time.Second: "1h6m", 24 * time.Hour: "1d", 77*time.Hour + 42*time.Minute: "3d5h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestBrief(t *testing.T) {
	for in, want := range map[string]string{
		"":                                   "",
		"no room":                            "no room",
		"404: <html>\n<b>no &amp; never</b>": "404: <html> <b>no &amp; never</b>",
		"a\x00b\u202ec\xff":                  "a?b?c\ufffd",
		strings.Repeat("x", 300):             strings.Repeat("x", 300),
		strings.Repeat("é", 1000):            strings.Repeat("é", 148) + "…",
	} {
		if got := Brief(in); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestQuotable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                 "plain",
		`say "x"`:               "say 'x'",
		`a\b`:                   "a?b",
		"a\x1b[2Jb":             "a?[2Jb",
		"caf\u00e9":             "caf?",
		"bad\xff":               "bad?",
		strings.Repeat("x", 61): strings.Repeat("x", 60) + "...",
	} {
		if got := Quotable(in); got != want {
			t.Errorf("Quotable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		"SELECT é FROM ☃":     "SELECT é FROM ☃",
		"a\tb\x00c\x7f\u0085": "a\ufffdb\ufffdc\ufffd\ufffd",
		"\xff\xfe|\xe2\x98":   "\ufffd\ufffd|\ufffd\ufffd",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
		if got := Clean([]byte(in)); got != want {
			t.Errorf("of bytes, Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTrimRune(t *testing.T) {
	for in, want := range map[string]string{"": "", "ab": "ab", "a☃": "a☃", "a\xe2\x98": "a", "\xe2": "", "\x98\x83": "\x98\x83"} {
		if got := TrimRune([]byte(in)); string(got) != want {
			t.Errorf("TrimRune(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSentence(t *testing.T) {
	if got := Sentence("got \"é\", \x1b[1m"); got != "got '?', ?[1m" {
		t.Error(got)
	}
}

func TestCause(t *testing.T) {
	_, err := os.Open("/nonexistent/file")
	if got := Cause(fmt.Errorf("reading: %w", err)); got != syscall.ENOENT {
		t.Errorf("the cause is %v", got)
	}
	if got := Cause(errors.ErrUnsupported); got != errors.ErrUnsupported {
		t.Errorf("the cause is %v", got)
	}
}
