package demo

import (
	"bytes"
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

func number(digits []byte) int64 {
	n, _ := strconv.ParseInt(string(digits), 10, 64) // digits only; an overflow is not in our recordings
	return n
}
