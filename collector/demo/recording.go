package demo

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the recordings
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"
)

// Recordings of a real lightningd v26.06.6: a first start, and one payment.
var (
	//go:embed startup.jsonl.gz
	startup []byte
	//go:embed xpay-one.jsonl.gz
	payment []byte
)

// datagram is one recorded span.
type datagram struct {
	PID     int    `json:"pid"`
	Exe     string `json:"exe"` // base name of the sender's executable
	Payload []byte `json:"b64"`
}

func read(recording []byte) ([]datagram, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(recording))
	if err != nil {
		return nil, fmt.Errorf("reading a recording: %w", err)
	}
	var list []datagram
	for lines := json.NewDecoder(unzipped); ; {
		var d datagram
		err := lines.Decode(&d)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading a recording: %w", err)
		}
		list = append(list, d)
	}
}

// times finds the start and the length of a span, in µs.
var times = regexp.MustCompile(`"timestamp":(\d+),"duration":(\d+)`)

// shift moves the spans in time so that the last one ends at end: backends
// refuse or hide what is too old.
func shift(list []datagram, end time.Time) {
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
