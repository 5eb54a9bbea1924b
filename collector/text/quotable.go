package text

import "strings"

// maxShown is how much of a value an error repeats, in bytes: enough to recognize
// it, and not so much that it fills a terminal.
const maxShown = 60

// Quotable makes a value from outside fit to stand between single quotes in an
// error. lightningd copies the raw JSON text of a setconfig error into a string
// that it escapes again, so the user would see each double quote and backslash
// behind several backslashes.
func Quotable(s string) string {
	cut := false
	if len(s) > maxShown {
		s, cut = s[:maxShown], true
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\', r < ' ', r > '~':
			return '?'
		}
		return r
	}, s)
	if cut {
		s += "..."
	}
	return s
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

// Sentence makes the text of an error fit for logs and for the answer to
// setconfig, in which double quotes do not survive (see Quotable).
func Sentence(s string) string { return ASCII(strings.ReplaceAll(s, `"`, "'")) }
