package zipkin

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean returns b as text that OTLP can carry: each byte that is not UTF-8 and
// each control character becomes U+FFFD. A single string that is not UTF-8 would
// make a whole batch fail.
func clean(b []byte) string {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return strings.Map(printable, string(b))
		}
	}
	return string(b)
}

func printable(r rune) rune {
	if unicode.IsControl(r) {
		return utf8.RuneError
	}
	return r
}

// maxInterned bounds what an interner holds, in bytes. A node sends some 400
// different statements, names and methods, 120 kB in all.
const maxInterned = 2 << 20

// interner returns the same string for equal texts, and cleans each only once.
type interner struct {
	texts map[string]string // as received → clean
	bytes int
}

func (in *interner) intern(b []byte) string {
	if s, ok := in.texts[string(b)]; ok {
		return s
	}
	if in.texts == nil || in.bytes+len(b) > maxInterned {
		// Starting over is cheap, and only a hostile sender gets here.
		in.texts, in.bytes = make(map[string]string), 0
	}
	raw := string(b)
	s := raw
	if cleaned := clean(b); cleaned != raw {
		s = cleaned
	}
	in.texts[raw] = s
	in.bytes += len(raw)
	return s
}
