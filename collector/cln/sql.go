package cln

import (
	"slices"
	"strings"
)

// maxSummary is the greatest length, in bytes, that the semantic conventions
// recommend for db.query.summary.
const maxSummary = 255

// summarize names the verbs and tables of an SQL statement in the form of
// db.query.summary: "UPDATE channels", "INSERT forwards SELECT channel_htlcs".
// It looks at words, not at grammar, so it cannot fail on a statement that is cut
// or is not SQL at all; of what it does not understand it returns the first word
// or nothing. The summary has at most maxSummary bytes.
func summarize(sql string) string {
	s := summary{lexer: lexer{rest: strings.TrimLeft(sql, "( ")}}
	verb := strings.ToUpper(s.lexer.next())
	switch verb {
	case "CREATE", "ALTER", "DROP":
		return s.definition(verb)
	case "PRAGMA":
		return s.finish(verb, s.lexer.next())
	}
	if !isWord(verb) || len(verb) > maxSummary {
		return ""
	}
	if verb != "WITH" {
		s.add(verb)
	}
	s.expect(verb)
	s.body(verb)
	if s.text == "" {
		return verb
	}
	return s.text
}

// summary is the state of summarize.
type summary struct {
	lexer lexer
	text  string
	// table says that the next word is a table, and list that we are behind a table
	// of FROM, where a comma announces another one.
	table, list bool
}

func (s *summary) add(word string) {
	switch {
	case word == "" || len(word) > maxSummary:
	case s.text == "":
		s.text = word
	case len(s.text)+1+len(word) <= maxSummary:
		s.text += " " + word
	}
}

func (s *summary) finish(verb, word string) string {
	s.add(verb)
	if isWord(word) {
		s.add(word)
	}
	return s.text
}

// definition reads CREATE, ALTER and DROP: the kind of object and its name, or, if
// an index is created, the table behind ON.
func (s *summary) definition(verb string) string {
	kind := strings.ToUpper(s.lexer.next())
	for isOneOf(kind, "UNIQUE", "TEMP", "TEMPORARY", "VIRTUAL", "OR", "REPLACE") {
		kind = strings.ToUpper(s.lexer.next())
	}
	s.add(verb)
	word := s.lexer.next()
	for isOneOf(strings.ToUpper(word), "IF", "NOT", "EXISTS", "ONLY") {
		word = s.lexer.next()
	}
	if kind == "INDEX" && verb == "CREATE" {
		for word != "" && !strings.EqualFold(word, "ON") {
			word = s.lexer.next()
		}
		word = s.lexer.next()
	}
	return s.finish(kind, word)
}

// expect sets table and list to what can follow a keyword.
func (s *summary) expect(keyword string) {
	s.table = isOneOf(keyword, "FROM", "JOIN", "INTO", "UPDATE")
	s.list = s.list && !isOneOf(keyword, "WHERE", "ON", "JOIN", "ORDER", "GROUP", "LIMIT", "SET", "VALUES", "SELECT", "RETURNING")
}

// body collects every further verb and table.
func (s *summary) body(verb string) {
	previous := verb
	for word := s.lexer.next(); word != ""; word = s.lexer.next() {
		upper := strings.ToUpper(word)
		if s.lexer.quoted {
			upper = "" // a name, even if it reads like a keyword
		}
		switch {
		case s.table && upper == "ONLY": // UPDATE ONLY t
		case s.table && upper == "OR": // UPDATE OR IGNORE t
			s.lexer.next()
		case s.table && isWord(word) && upper != "SELECT":
			s.add(word)
			s.list = previous != "INTO" && previous != "UPDATE"
			s.table = false
		case upper == "SELECT" || isOneOf(upper, "INSERT", "DELETE", "UPDATE") && isOneOf(previous, ")", "EXPLAIN"):
			s.add(upper)
			s.expect(upper)
		case upper == "UPDATE": // of ON CONFLICT … DO UPDATE, or of FOR UPDATE
		case upper == "," && s.list:
			s.table = true
		case upper == "(" && s.table: // a subselect or a list of tables
		case upper == ")":
			s.table, s.list = false, false
		default:
			s.expect(upper)
		}
		previous = upper
	}
}

func isOneOf(word string, list ...string) bool {
	return slices.Contains(list, word)
}

// isWord reports whether s is a keyword or a name, and not punctuation or a number.
func isWord(s string) bool { return s != "" && isWordByte(s[0]) && (s[0] < '0' || s[0] > '9') }

func isWordByte(c byte) bool {
	return c == '_' || c == '.' || c == '$' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80
}

// lexer splits SQL into words and punctuation, without comments and literals.
type lexer struct {
	rest   string
	quoted bool // the last word was in quotes, so it is no keyword
}

// next returns the next word or punctuation mark, "" at the end.
func (l *lexer) next() string {
	for {
		l.rest = strings.TrimLeft(l.rest, " \t\r\n\f\v;")
		switch {
		case l.rest == "":
			return ""
		case strings.HasPrefix(l.rest, "--"):
			l.skipPast("\n")
		case strings.HasPrefix(l.rest, "/*"):
			l.skipPast("*/")
		case l.rest[0] == '\'':
			l.rest = l.rest[1:]
			l.skipPast("'")
		default:
			if word := l.word(); word != "" {
				return word
			}
		}
	}
}

func (l *lexer) skipPast(end string) {
	_, l.rest, _ = strings.Cut(l.rest, end)
}

// word takes a word, a quoted name without its quotes, which may be empty, or one
// byte of anything else.
func (l *lexer) word() string {
	l.quoted = false
	if closing := closingQuote(l.rest[0]); closing != 0 {
		if end := strings.IndexByte(l.rest[1:], closing); end >= 0 {
			name := l.rest[1 : 1+end]
			l.rest, l.quoted = l.rest[end+2:], true
			return name
		}
	}
	n := 0
	for n < len(l.rest) && isWordByte(l.rest[n]) {
		n++
	}
	n = max(n, 1)
	word := l.rest[:n]
	l.rest = l.rest[n:]
	return word
}

func closingQuote(open byte) byte {
	switch open {
	case '"', '`':
		return open
	case '[':
		return ']'
	}
	return 0
}
