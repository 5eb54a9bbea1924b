// Package text makes text from outside fit for OTLP, for tables, terminals and log
// lines, and writes counts for people.
package text

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxBrief bounds what Brief returns, in bytes: a sentence or two.
	maxBrief = 300
	// maxQuotable bounds what Quotable returns, in bytes: enough to recognize a
	// value, and not so much that it fills a terminal.
	maxQuotable = 60
)

// Number writes n followed by one or many, whichever fits n.
func Number[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(int64(n), 10) + " " + many
}

// Clip returns at most the first most bytes of s, without a partial character at
// the end. The result shares the memory of s, and keeps all of it alive.
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	end := most
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// TrimRune returns b without the incomplete rune at its end, if there is one.
func TrimRune(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-i:]) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

// Clean returns s as text that OTLP can carry: each byte that is not UTF-8 and each
// control character becomes U+FFFD. A single string that is not UTF-8 would make a
// whole batch fail.
func Clean[T string | []byte](s T) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			// Map makes a byte that is not UTF-8 U+FFFD by itself.
			return strings.Map(func(r rune) rune {
				if unicode.IsControl(r) {
					return unicode.ReplacementChar
				}
				return r
			}, string(s))
		}
	}
	return string(s)
}

// Plain replaces what a terminal would not show as it is. White space becomes blanks.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// Duration writes a duration in the two largest units that apply, as options take
// them: 45s, 7m, 1h6m, 3d5h.
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	units := []struct {
		size time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	for i, u := range units[:len(units)-1] {
		if d >= u.size {
			next := units[i+1]
			s := fmt.Sprintf("%d%s", d/u.size, u.name)
			if rest := d % u.size / next.size; rest > 0 {
				s += fmt.Sprintf("%d%s", rest, next.name)
			}
			return s
		}
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// Brief makes what a backend or a proxy says, which may be a whole page, fit into a
// line: at most maxBrief bytes, and Plain.
func Brief(s string) string {
	line := Plain(strings.Join(strings.Fields(s), " "))
	if len(line) <= maxBrief {
		return line
	}
	const more = "…"
	return Clip(line, maxBrief-len(more)) + more
}

// ASCII makes s one line of printable ASCII, which every terminal and log shows
// alike.
func ASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// Sentence makes the text of an error fit for logs and for the answer to setconfig:
// ASCII without double quotes. lightningd copies the raw JSON text of such an error
// into a string that it escapes again, so the user would see each double quote and
// backslash behind several backslashes.
func Sentence(s string) string { return ASCII(strings.ReplaceAll(s, `"`, "'")) }

// Quotable makes a value from outside fit to stand between single quotes in a
// Sentence: at most maxQuotable bytes of it, and no backslashes.
func Quotable(s string) string {
	more := ""
	if len(s) > maxQuotable {
		s, more = s[:maxQuotable], "..."
	}
	return strings.ReplaceAll(Sentence(s), `\`, "?") + more
}

// Cause returns err without the operation and the path of package os, for sentences
// that name them already.
func Cause(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
