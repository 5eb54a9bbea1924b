//go:build unix

package trace

import (
	"encoding/json"
	"io"
	"syscall"
	"time"
)

// Order tells a sender process what to send next.
type Order struct {
	Payloads [][]byte
	// Patience is how long each datagram waits while the queue is full;
	// 0: not at all, as in lightningd.
	Patience time.Duration
}

// Outcome answers an Order: what became of each of its datagrams.
type Outcome struct {
	Errnos []syscall.Errno
}

// Serve carries out the orders that come on r, one JSON object each, and
// answers each on w, until r ends.
func Serve(socket string, r io.Reader, w io.Writer) error {
	e, err := Open(socket)
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	answers := json.NewEncoder(w)
	for orders := json.NewDecoder(r); ; {
		var order Order
		if err := orders.Decode(&order); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		outcome := Outcome{Errnos: make([]syscall.Errno, len(order.Payloads))}
		for i, payload := range order.Payloads {
			if order.Patience > 0 {
				outcome.Errnos[i] = e.SendPatiently(payload, order.Patience)
			} else {
				outcome.Errnos[i] = e.Send(payload)
			}
		}
		if err := answers.Encode(outcome); err != nil {
			return err
		}
	}
}
