package demo

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"regexp"
	"strconv"
	"time"

	"clntrace/collector/recording"
)

// times matches the start and the duration of a span, in µs.
var times = regexp.MustCompile(`"timestamp":(\d+),"duration":(\d+)`)

// shift moves the spans in time, so that the last one ends at end: backends refuse
// or hide spans that are too old.
func shift(list []recording.Datagram, end time.Time) {
	var last int64
	for _, d := range list {
		if m := times.FindSubmatch(d.Payload); m != nil {
			last = max(last, number(m[1])+number(m[2]))
		}
	}
	by := end.UnixMicro() - last
	for i := range list {
		if m := times.FindSubmatchIndex(list[i].Payload); m != nil {
			p := list[i].Payload
			moved := strconv.AppendInt(bytes.Clone(p[:m[2]]), number(p[m[2]:m[3]])+by, 10)
			list[i].Payload = append(moved, p[m[3]:]...)
		}
	}
}

// ids finds the ids of a span: its own, that of its parent, that of its trace.
// A request's id, which is a tag, has another form.
var ids = regexp.MustCompile(`"(?:id|parentId|traceId)":"((?:[0-9a-f]{16}){1,2})"`)

// renew gives the spans ids that they have in this run alone, with the same
// relations: a backend that has seen the demo before would take its traces for
// more of the same ones.
func renew(list []recording.Datagram) {
	var mask [16]byte
	_, _ = rand.Read(mask[:]) // cannot fail
	for i := range list {
		list[i].Payload = bytes.Clone(list[i].Payload)
		for _, m := range ids.FindAllSubmatchIndex(list[i].Payload, -1) {
			digits := list[i].Payload[m[2]:m[3]]
			id := make([]byte, hex.DecodedLen(len(digits)))
			_, _ = hex.Decode(id, digits) // as many digits as an id has
			subtle.XORBytes(id, id, mask[:])
			hex.Encode(digits, id)
		}
	}
}

func number(digits []byte) int64 {
	n, _ := strconv.ParseInt(string(digits), 10, 64) // digits only; an overflow is not in our recordings
	return n
}
