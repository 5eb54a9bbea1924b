// Package text makes text from outside fit for bounded tables, terminals and log
// lines, and writes counts for people.
package text

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
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

// Plain replaces what a terminal or lightning-cli would not show as it is;
// lightning-cli shows <, > and & as u003c and so on. White space becomes blanks.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '<':
			return '('
		case r == '>':
			return ')'
		case r == '&':
			return '+'
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}
