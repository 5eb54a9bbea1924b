package cln

import (
	"bytes"
	"fmt"
	"iter"
	"math/bits"
	"strconv"
	"strings"
)

// Notifications are read in place: encoding/json would copy each of them several
// times over, preimages and all. What follows relies on the JSON being valid.

// fields returns the object that holds a notification's fields.
func fields(topic string, params []byte) []byte {
	object := params
	for range 2 { // payload may hold another one named after the topic
		inner := object
		for name, value := range members(object) {
			if name == topic && value[0] == '{' {
				inner = value
				break
			}
			if name == "payload" && value[0] == '{' {
				inner = value
			}
		}
		object = inner
	}
	return object
}

// members yields the members of an object: name and raw value. Of what is no object
// there are none.
func members(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		rest, ok := inside(object, '{')
		for ok {
			name := rest[:valueLen(rest)]
			rest = bytes.TrimLeft(rest[len(name):], " \t\r\n")
			rest = bytes.TrimLeft(rest[1:], " \t\r\n") // the colon
			value := rest[:valueLen(rest)]
			if !yield(string(bytes.Trim(name, `"`)), value) {
				return
			}
			rest, ok = after(rest[len(value):])
		}
	}
}

// elements yields the raw elements of an array. Of what is no array there are none.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		rest, ok := inside(array, '[')
		for ok {
			value := rest[:valueLen(rest)]
			if !yield(value) {
				return
			}
			rest, ok = after(rest[len(value):])
		}
	}
}

// inside returns what follows the opening bracket of a value, unless that is
// another one, or the value is empty.
func inside(value []byte, open byte) (rest []byte, ok bool) {
	value = bytes.TrimLeft(value, " \t\r\n")
	if len(value) == 0 || value[0] != open {
		return nil, false
	}
	rest = bytes.TrimLeft(value[1:], " \t\r\n")
	return rest, rest[0] != '}' && rest[0] != ']'
}

// after returns what follows a comma, if there is one.
func after(rest []byte) ([]byte, bool) {
	rest = bytes.TrimLeft(rest, " \t\r\n")
	if len(rest) == 0 || rest[0] != ',' {
		return nil, false
	}
	return bytes.TrimLeft(rest[1:], " \t\r\n"), true
}

// valueLen is the length of the value at the start of b.
func valueLen(b []byte) int {
	switch b[0] {
	case '"':
		return textLen(b)
	case '{', '[':
		return nestLen(b)
	}
	for i, c := range b {
		switch c {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return i
		}
	}
	return len(b)
}

// textLen is the length of the text at the start of b, quotes included.
func textLen(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// nestLen is the length of the object or array at the start of b.
func nestLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += textLen(b[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(b)
}

// word returns a text without quotes, or "" if value is no text, or holds anything
// but printable ASCII, or is longer than any word of lightningd's.
func word(value []byte) string {
	if len(value) < 2 || len(value) > maxReason+2 || value[0] != '"' {
		return ""
	}
	text := value[1 : len(value)-1]
	for _, c := range text {
		if c < ' ' || c > '~' || c == '\\' {
			return ""
		}
	}
	return string(text)
}

// number reads a number of at most 64 bits without sign, which may stand in quotes
// and end in msat.
func number(value []byte) (n uint64, ok bool) {
	text := bytes.TrimSuffix(bytes.Trim(value, `"`), []byte("msat"))
	if len(text) == 0 || len(text) > len("18446744073709551615") {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		hi, lo := bits.Mul64(n, 10)
		sum, carry := bits.Add64(lo, uint64(c-'0'), 0)
		if hi != 0 || carry != 0 {
			return 0, false
		}
		n = sum
	}
	return n, true
}

func direction(value []byte) uint8 {
	n, _ := number(value)
	return uint8(n & 1) //nolint:gosec // one bit
}

// maxSeconds is the year 2262, the last that fits ns in an int64.
const maxSeconds = 9_200_000_000

// nanoseconds reads a number of seconds with decimals, digit by digit: a float64
// has too few for ns since the Unix epoch. 0: anything else.
func nanoseconds(value []byte) int64 {
	whole, fraction, _ := bytes.Cut(bytes.Trim(value, `"`), []byte{'.'})
	seconds, ok := number(whole)
	if !ok || seconds > maxSeconds {
		return 0
	}
	ns := int64(0)
	for i := range 9 {
		ns *= 10
		if i < len(fraction) {
			if fraction[i] < '0' || fraction[i] > '9' {
				return 0
			}
			ns += int64(fraction[i] - '0')
		}
	}
	return int64(seconds)*1e9 + ns
}

// Channel is a short channel id: block, transaction and output, in 24, 24 and 16
// bits. Zero: not known.
type Channel uint64

// String returns the form that lightningd uses, 103x1x0.
func (c Channel) String() string {
	return fmt.Sprintf("%dx%dx%d", uint64(c>>40), uint64(c>>16)&0xffffff, uint64(c)&0xffff)
}

func (c *Channel) parse(value []byte) {
	parts := strings.Split(word(value), "x")
	if len(parts) != 3 {
		return
	}
	var id Channel
	for i, size := range []int{24, 24, 16} {
		n, err := strconv.ParseUint(parts[i], 10, size)
		if err != nil {
			return
		}
		id = id<<size | Channel(n)
	}
	*c = id
}
