package plugin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
)

// maxRequest bounds one message from lightningd, in bytes. Its own are a few
// KiB; a client's tracestats, which it passes on as it came, may be anything.
const maxRequest = 1 << 20

// frame is one message from lightningd.
type frame struct {
	body    []byte
	dropped int  // bytes that did not fit into body
	garbage bool // body is no JSON object
}

// splitter cuts a stream into JSON objects, by the rules of lightningd's own
// parser: brackets outside of strings. A blank line is not a safe mark, though
// each message ends with one: lightningd forwards a client's request with the
// white space that the client put into it, and lets raw newlines pass in strings.
type splitter struct {
	r *bufio.Reader
}

func newSplitter(r io.Reader) *splitter {
	return &splitter{r: bufio.NewReaderSize(r, 64<<10)}
}

// next reads one frame. Its error is that of the stream; what an ending stream
// leaves half done is not a frame.
func (s *splitter) next() (frame, error) {
	for {
		b, err := s.r.ReadByte()
		if err != nil {
			return frame{}, err
		}
		switch b {
		case ' ', '\t', '\r', '\n':
		case '{':
			return s.object()
		default:
			return s.garbage(b)
		}
	}
}

// object reads the rest of an object whose opening brace has been read.
func (s *splitter) object() (frame, error) {
	f := frame{body: []byte{'{'}}
	at := position{open: []byte{'{'}, last: '{'}
	for len(at.open) > 0 {
		b, err := s.r.ReadByte()
		if err != nil {
			return frame{}, err
		}
		if b == '{' && at.startsAnother() {
			f.garbage = true // the first half of a message
			return f, s.r.UnreadByte()
		}
		f.keep(b)
		at.pass(b)
	}
	return f, nil
}

// position is a place inside a JSON object.
type position struct {
	open     []byte // brackets that have not been closed, maxRequest of them at most
	beyond   int    // how many more there are
	inString bool
	escaped  bool // the last byte was a backslash in a string
	newlines int  // since last
	last     byte // the last byte that is not white space
}

// startsAnother reports whether an opening brace here begins the next message,
// so that this one is only half a message: there is a blank line before it, and
// JSON allows no object here.
func (p *position) startsAnother() bool {
	objectMayFollow := p.last == '[' || p.last == ':' || p.last == ',' && p.open[len(p.open)-1] == '['
	return !p.inString && p.newlines > 1 && !objectMayFollow
}

// pass moves the position behind b.
func (p *position) pass(b byte) {
	switch {
	case p.escaped:
		p.escaped = false
	case p.inString && b == '\\':
		p.escaped = true
	case b == '"':
		p.inString = !p.inString
	case p.inString:
	case b == '{' || b == '[':
		if len(p.open) < maxRequest {
			p.open = append(p.open, b)
		} else {
			p.beyond++
		}
	case (b == '}' || b == ']') && p.beyond > 0:
		p.beyond--
	case b == '}' || b == ']':
		p.open = p.open[:len(p.open)-1]
	}
	switch b {
	case '\n':
		p.newlines++
	case ' ', '\t', '\r':
	default:
		p.newlines, p.last = 0, b
	}
}

// garbage reads to the blank line that should follow it.
func (s *splitter) garbage(first byte) (frame, error) {
	f := frame{body: []byte{first}, garbage: true}
	for last := first; ; {
		b, err := s.r.ReadByte()
		if err == io.EOF || err == nil && b == '\n' && last == '\n' {
			return f, nil
		}
		if err != nil {
			return f, err
		}
		f.keep(b)
		last = b
	}
}

func (f *frame) keep(b byte) {
	if len(f.body) < maxRequest {
		f.body = append(f.body, b)
	} else {
		f.dropped++
	}
}

// members finds the members of a JSON object, raw. Of several with one name
// the first counts, as in lightningd (encoding/json takes the last, and does
// not mind the case). It does not judge: what is not JSON ends the search.
func members(object []byte) map[string][]byte {
	found := make(map[string][]byte)
	rest := bytes.TrimPrefix(bytes.TrimSpace(object), []byte{'{'})
	for {
		rest = bytes.TrimLeft(rest, " \t\r\n,")
		if len(rest) == 0 || rest[0] != '"' {
			return found
		}
		n := valueLen(rest)
		if n == 0 {
			return found
		}
		key := string(rest[1 : n-1])
		rest = bytes.TrimLeft(rest[n:], " \t\r\n")
		if len(rest) == 0 || rest[0] != ':' {
			return found
		}
		rest = bytes.TrimLeft(rest[1:], " \t\r\n")
		n = valueLen(rest)
		if n == 0 {
			return found
		}
		if _, ok := found[key]; !ok {
			found[key] = rest[:n]
		}
		rest = rest[n:]
	}
}

// valueLen is the length of the JSON value that b begins with, 0 if that is cut off.
func valueLen(b []byte) int {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			if inString = !inString; !inString && depth == 0 {
				return i + 1
			}
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case depth == 0 && strings.IndexByte(", \t\r\n", c) >= 0:
			return i
		}
	}
	return 0
}

// quoteBare puts bare words that are not JSON between quotes. lightningd hands
// on the value of an int option as the operator wrote it, and its strtol takes
// 0x400, 010 and +5: "clntrace-queue-size":0x400 in init is not JSON, and
// would leave the node waiting for an answer until it gives up.
func quoteBare(text []byte) []byte {
	var out bytes.Buffer
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			n := valueLen(text[i:])
			if n == 0 {
				n = len(text) - i
			}
			out.Write(text[i : i+n])
			i += n
		case strings.IndexByte("{}[]:, \t\r\n", c) >= 0:
			out.WriteByte(c)
			i++
		default:
			n := bytes.IndexAny(text[i:], "{}[]:, \t\r\n\"")
			if n < 0 {
				n = len(text) - i
			}
			word := text[i : i+n]
			if !json.Valid(word) {
				word, _ = json.Marshal(string(word))
			}
			out.Write(word)
			i += n
		}
	}
	return out.Bytes()
}

// unescapePlain undoes the escapes that encoding/json adds without need.
// lightningd's parsers do not know \u: they would show <b> as u003cb u003e.
func unescapePlain(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if text[i] != '\\' || i+1 == len(text) {
			out = append(out, text[i])
			i++
			continue
		}
		if plain, ok := needlessEscapes[string(text[i:min(i+6, len(text))])]; ok {
			out = append(out, plain...)
			i += 6
			continue
		}
		// Two bytes at once, so that the u of an escaped backslash followed by
		// u003c is not taken for an escape.
		out = append(out, text[i], text[i+1])
		i += 2
	}
	return out
}

var needlessEscapes = map[string]string{
	`\u003c`: "<", `\u003e`: ">", `\u0026`: "&", `\u2028`: "\u2028", `\u2029`: "\u2029", `\u007f`: "\u007f",
}
