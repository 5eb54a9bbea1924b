// Package recording reads trace datagrams that were recorded from a real
// lightningd, and contains two recordings: the demo plays them, and tests and
// benchmarks use them.
//
// It takes nothing and gives Datagrams: 604 of a first start and 156 of a payment,
// which take some 60 KiB in the binary.
package recording

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the recordings
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Datagram is one recorded span.
type Datagram struct {
	PID     int    `json:"pid"`
	Exe     string `json:"exe"` // base name of the sender's executable
	Payload []byte `json:"b64"` // as it arrived
	SentNS  int64  `json:"k"`   // when, ns since the Unix epoch
}

// What lightningd v26.06.6 and its plugins sent: on a first start with a fresh
// database, and during one payment with xpay.
var (
	//go:embed startup.jsonl.gz
	startup []byte
	//go:embed xpay.jsonl.gz
	xpay []byte
)

// Startup returns the 604 spans of a first start.
func Startup() ([]Datagram, error) { return Read(bytes.NewReader(startup)) }

// Xpay returns the 156 spans of a payment.
func Xpay() ([]Datagram, error) { return Read(bytes.NewReader(xpay)) }

// Load reads a recording from a file, in the format that Read expects.
func Load(path string) ([]Datagram, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a recording: %w", err)
	}
	defer func() { _ = f.Close() }()
	return Read(f)
}

// Read reads a recording: a gzip file with a JSON object on each line, in the order
// of arrival.
func Read(r io.Reader) ([]Datagram, error) {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("reading a recording: %w", err)
	}
	var list []Datagram
	for lines := json.NewDecoder(unzipped); ; {
		var d Datagram
		err := lines.Decode(&d)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading datagram %d of a recording: %w", len(list), err)
		}
		list = append(list, d)
	}
}
