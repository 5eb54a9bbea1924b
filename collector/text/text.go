// Package text makes text that somebody else wrote fit for where it goes: a
// bounded table, a terminal, one line of a log; and counts for people.
package text

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Number is n with what is said of one, or of many.
func Number[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(int64(n), 10) + " " + many
}

// Clip returns the beginning of s, most bytes at most, without half a
// character at its end. It is a part of s still, and keeps all of s in memory.
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

// Plain replaces what a terminal or lightning-cli would not show as it is: the
// latter shows <, > and & as u003c and the like. White space becomes blanks.
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
