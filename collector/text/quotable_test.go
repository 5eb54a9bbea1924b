package text

import (
	"strings"
	"testing"
)

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
