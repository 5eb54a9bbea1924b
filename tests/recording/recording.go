// Package recording reads recorded trace datagrams of a real lightningd, those of
// testdata too, and makes further ones in their form. It knows the datagrams'
// text on its own, so that a test does not compare the decoder with itself.
package recording

import (
	"bufio"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// The recordings: those that the demo plays lie with it, the others in testdata.
const (
	Startup            = "startup"
	TraceparentStartup = "tp-startup"
	LossyStartup       = "q10-startup"
	Xpay               = "xpay"
	Pay                = "pay-one"
	Weird              = "weird"
)

// Datagram is one span as one process sent it.
type Datagram struct {
	PID, ParentPID int
	// Exe is the base name of the sender's executable.
	Exe     string
	Payload []byte
	// SentAt is the kernel's timestamp.
	SentAt time.Time
}

// line is a Datagram as it is written.
type line struct {
	SentNS  int64  `json:"k"`
	PID     int    `json:"pid"`
	PPID    string `json:"ppid"`
	Exe     string `json:"exe"`
	Length  int    `json:"len"`
	Payload string `json:"b64"`
}

// Load reads the recording of that name, in the order of arrival.
func Load(name string) ([]Datagram, error) {
	_, here, _, _ := runtime.Caller(0)
	tests := filepath.Join(filepath.Dir(here), "..")
	path := filepath.Join(tests, "testdata", name+".jsonl.gz")
	if name == Startup || name == Xpay {
		path = filepath.Join(tests, "..", "collector", "recording", name+".jsonl.gz")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	datagrams, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return datagrams, nil
}

// Read reads a gzip'd recording.
func Read(r io.Reader) ([]Datagram, error) {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	var datagrams []Datagram
	for d := json.NewDecoder(bufio.NewReader(unzipped)); ; {
		var l line
		if err := d.Decode(&l); err == io.EOF {
			return datagrams, nil
		} else if err != nil {
			return nil, fmt.Errorf("datagram %d: %w", len(datagrams), err)
		}
		datagram, err := l.datagram()
		if err != nil {
			return nil, fmt.Errorf("datagram %d: %w", len(datagrams), err)
		}
		datagrams = append(datagrams, datagram)
	}
}

func (l line) datagram() (Datagram, error) {
	payload, err := base64.StdEncoding.DecodeString(l.Payload)
	if err != nil {
		return Datagram{}, err
	}
	if len(payload) != l.Length {
		return Datagram{}, fmt.Errorf("%d bytes recorded of %d", len(payload), l.Length)
	}
	d := Datagram{PID: l.PID, Exe: l.Exe, Payload: payload, SentAt: time.Unix(0, l.SentNS)}
	if _, err := fmt.Sscan(l.PPID, &d.ParentPID); err != nil {
		return Datagram{}, fmt.Errorf("parent pid %q: %w", l.PPID, err)
	}
	return d, nil
}
