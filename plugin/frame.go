package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// maxRequest bounds one message from lightningd, in bytes. lightningd's own are
// a few KiB, but a client's tracestats is forwarded as it came, whatever its
// size.
const maxRequest = 1 << 20

// usualSize is the size of most messages, in bytes.
const usualSize = 1 << 10

// frame is one message from lightningd.
type frame struct {
	body    []byte
	dropped int  // bytes that did not fit into body
	garbage bool // body is not a JSON object
}

// splitter cuts a stream into JSON objects as lightningd's own parser does, by
// counting the brackets outside of strings. Each message ends with a blank line,
// but a blank line is not always the end of a message: lightningd forwards a
// client's request with the client's own white space, and accepts raw newlines in
// strings.
type splitter struct {
	r *wipingReader
}

func newSplitter(r io.Reader) *splitter { return &splitter{r: newWipingReader(r)} }

// next reads one frame. Its error is that of the stream. An object that is cut
// off by the end of the stream is not a frame.
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
	f := frame{body: append(make([]byte, 0, usualSize), '{')}
	at := position{open: []byte{'{'}, last: '{'}
	for len(at.open) > 0 {
		b, err := s.r.ReadByte()
		if err != nil {
			return frame{}, err
		}
		if b == '{' && at.startsAnother() {
			f.garbage = true // the first half of a message
			s.r.putBack(b)
			return f, nil
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

// garbage reads up to the blank line that should end the message.
func (s *splitter) garbage(first byte) (frame, error) {
	f := frame{body: []byte{first}, garbage: true}
	for last := first; ; {
		b, err := s.r.ReadByte()
		if errors.Is(err, io.EOF) || err == nil && b == '\n' && last == '\n' {
			return f, nil
		}
		if err != nil {
			return f, err
		}
		f.keep(b)
		last = b
	}
}

// keep adds a byte to the body. Where the body has to move, it leaves nothing behind:
// it may hold a preimage.
func (f *frame) keep(b byte) {
	if len(f.body) >= maxRequest {
		f.dropped++
		return
	}
	if len(f.body) == cap(f.body) {
		grown := make([]byte, len(f.body), 2*cap(f.body))
		copy(grown, f.body)
		clear(f.body)
		f.body = grown
	}
	f.body = append(f.body, b)
}

// members finds the members of a JSON object and returns their raw text. Where a
// name occurs more than once the first one counts, as it does for lightningd;
// encoding/json takes the last one, and ignores case. members does not validate:
// it stops at the first thing that is not JSON.
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

// valueLen is the length of the JSON value at the start of b, 0 if the value is
// cut off.
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

// quoteBare puts bare words that are not literals of JSON between quotes, numbers
// above all: lightning-cli makes a number of an id that has digits alone, and
// glightning would round it to a float64. lightningd passes on the value of an int
// option as the operator wrote it, and its strtol accepts 0x400, 010 and +5. Without
// this, "clntrace-queue-size":0x400 would make init invalid JSON, and the node would
// wait for an answer until it gives up.
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
			switch word := string(text[i : i+n]); word {
			case "true", "false", "null":
				out.WriteString(word)
			default:
				quoted, _ := json.Marshal(word) // a string can be
				out.Write(quoted)
			}
			i += n
		}
	}
	return out.Bytes()
}

// unescapePlain undoes the escapes that encoding/json adds without need.
// lightningd does not decode \u escapes, so users would see <b> as u003cbu003e.
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
		// Copy a backslash together with what it escapes, so that an escaped
		// backslash before u003c is not taken for the start of an escape.
		out = append(out, text[i], text[i+1])
		i += 2
	}
	return out
}

var needlessEscapes = map[string]string{
	`\u003c`: "<", `\u003e`: ">", `\u0026`: "&", `\u2028`: "\u2028", `\u2029`: "\u2029", `\u007f`: "\u007f",
}
