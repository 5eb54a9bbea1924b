package plugin

import (
	"bytes"
	"slices"
	"time"

	"clntrace/collector/cln"
)

// Notifications about payments, forwards and blocks are read here, in the order of
// lightningd's pipe. glightning would handle each in a goroutine of its own, and in no
// order; and it would copy them, with the preimages that some of them hold.

// notices takes what notifications say. It never waits: lightningd keeps without a
// bound what is not read from its pipe.
type notices interface {
	// Notify is called in the order of the pipe.
	Notify(e cln.Event, at time.Time)
	// NotifyMalformed is called for a notification that could not be read.
	NotifyMalformed()
	// FirstRequest is called with the number of lightningd's first request to us.
	FirstRequest(number uint64)
}

// subscriptions are the topics that lightningd sends us.
func subscriptions() []string { return append(cln.Topics(), "shutdown") }

// maxNotification bounds the notifications that are read, in bytes. A payment over 64
// hops has some 17 kB; only an invoice's label can be longer.
const maxNotification = 128 << 10

// takeNotification passes a notification on if it is for to, and reports whether it
// was. Nothing is left in f then.
func takeNotification(to notices, m map[string][]byte, f frame) bool {
	topic := string(bytes.Trim(m["method"], `"`))
	if to == nil || !slices.Contains(cln.Topics(), topic) {
		return false
	}
	at := time.Now()
	defer clear(f.body)
	if f.dropped > 0 || len(f.body) > maxNotification {
		to.NotifyMalformed()
		return true
	}
	e, err := cln.ParseNotification(topic, m["params"])
	if err != nil {
		to.NotifyMalformed()
		return true
	}
	to.Notify(e, at)
	return true
}
