// Package text makes text that somebody else wrote fit for where it goes: a
// bounded table, a terminal, one line of a log.
package text

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

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
