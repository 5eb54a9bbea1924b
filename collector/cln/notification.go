package cln

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Topics of the notifications that ParseNotification reads.
const (
	TopicPartStart   = "pay_part_start"  // cln-xpay sends a part of a payment
	TopicPartEnd     = "pay_part_end"    // a part has succeeded or failed
	TopicForward     = "forward_event"   // a forward was offered on, settled or failed
	TopicInvoicePaid = "invoice_payment" // somebody paid one of our invoices
	TopicBlockAdded  = "block_added"     // lightningd has seen a block
)

// Topics returns the topics that ParseNotification reads.
func Topics() []string {
	return []string{TopicPartStart, TopicPartEnd, TopicForward, TopicInvoicePaid, TopicBlockAdded}
}

// maxHops bounds the hops that are kept of one route. An onion holds 27 of the old
// form, and of the new one hardly twice that; of a longer route the rest is counted.
const maxHops = 64

// maxReason bounds the text of an error, bytes. onion_wire.csv's longest name has 36.
const maxReason = 160

// Errors of ParseNotification.
var (
	ErrTopic     = errors.New("no topic that clntrace reads")
	ErrMalformed = errors.New("malformed notification")
)

// Event is what a notification of lightningd says: a PartStart, PartEnd, Forward,
// InvoicePaid or BlockAdded. It holds no preimage, invoice, label or description,
// and shares no memory with the notification.
type Event interface{ event() }

// Part identifies a part of a payment, and with Number 0 the payment as a whole.
type Part struct {
	Hash   Hash   // of the payment's preimage
	Group  uint64 // one attempt to pay that hash; may exceed 2^53
	Number uint64
}

// PartStart says that cln-xpay is about to send a part of a payment.
type PartStart struct {
	Part
	TotalMsat, AmountMsat, FeeMsat uint64 // of the payment; of this part; of its route

	Hops     []Hop // at most maxHops; none for a payment to oneself
	HopCount int   // of the whole route
}

// Hop is a step of a route: over a channel, in one of its directions, to a node.
type Hop struct {
	Node      NodeID
	Channel   Channel
	Direction uint8 // 0 or 1
}

// PartEnd says how a part of a payment has ended.
type PartEnd struct {
	Part
	Success  bool
	Duration time.Duration // from before the request until xpay had its answer

	// Of a failure; zero where xpay does not know.
	Code          int64
	Reason        string // as xpay has it: temporary_channel_failure
	FailedNode    NodeID
	FailedChannel Channel
	Direction     uint8 // of FailedChannel
}

// ForwardStatus is what became of a forward.
type ForwardStatus string

// What lightningd calls the states of a forward.
const (
	ForwardOffered     ForwardStatus = "offered"
	ForwardSettled     ForwardStatus = "settled"
	ForwardFailed      ForwardStatus = "failed"       // further on
	ForwardLocalFailed ForwardStatus = "local_failed" // here
)

// Forward says what has happened to a forward. In and InHTLC identify it.
type Forward struct {
	Hash    Hash // zero: not said
	In, Out Channel
	InHTLC  uint64

	InMsat, OutMsat, FeeMsat uint64 // 0: not said

	Status ForwardStatus
	Reason string // WIRE_TEMPORARY_CHANNEL_FAILURE; empty: not said

	Received, Resolved int64 // ns since the Unix epoch; 0: not said

	// Created counts the forwards that lightningd has seen, Updated the changes to
	// them; one of the two is set. 0: not said.
	Created, Updated uint64
}

// InvoicePaid says that an invoice of ours was paid.
type InvoicePaid struct {
	Hash       Hash
	AmountMsat uint64 // 0: not said
}

// BlockAdded says that lightningd has seen a block.
type BlockAdded struct{ Height uint32 }

func (PartStart) event()   {}
func (PartEnd) event()     {}
func (Forward) event()     {}
func (InvoicePaid) event() {}
func (BlockAdded) event()  {}

// ParseNotification reads the parameters of a notification. lightningd puts the
// fields into an object named after the topic, its documentation into one named
// payload; both are read, and so are fields without any object around them.
// Unknown fields are ignored, and so are known ones of another type, as if they
// were missing. The error is ErrTopic, or wraps ErrMalformed: not JSON, or without
// what the event cannot be without (the hash, the channel, the height).
//
// ParseNotification overwrites params, which may hold a preimage.
func ParseNotification(topic string, params []byte) (Event, error) {
	defer clear(params)
	read, ok := parsers[topic]
	if !ok {
		return nil, ErrTopic
	}
	if !json.Valid(params) {
		return nil, fmt.Errorf("%w: %s is not JSON", ErrMalformed, topic)
	}
	e, err := read(fields(topic, params))
	if err != nil {
		return nil, fmt.Errorf("%w: %s %w", ErrMalformed, topic, err)
	}
	return e, nil
}

var parsers = map[string]func(object []byte) (Event, error){
	TopicPartStart:   parsePartStart,
	TopicPartEnd:     parsePartEnd,
	TopicForward:     parseForward,
	TopicInvoicePaid: parseInvoicePaid,
	TopicBlockAdded:  parseBlockAdded,
}

var (
	errNoHash    = errors.New("without payment_hash")
	errNoKey     = errors.New("without in_channel or in_htlc_id")
	errNoState   = errors.New("without a status that is known")
	errNoSecret  = errors.New("without preimage")
	errNoHeight  = errors.New("without height")
	errNoOutcome = errors.New("without status")
)

// of reads one member of the object that identifies a part.
func (p *Part) of(name string, value []byte) {
	switch name {
	case "payment_hash":
		p.Hash.parse(value)
	case "groupid":
		p.Group, _ = number(value)
	case "partid":
		p.Number, _ = number(value)
	}
}

func parsePartStart(object []byte) (Event, error) {
	var e PartStart
	var sent, delivered uint64
	for name, value := range members(object) {
		switch name {
		case "total_payment_msat":
			e.TotalMsat, _ = number(value)
		case "attempt_msat":
			e.AmountMsat, _ = number(value)
		case "hops":
			for hop := range elements(value) {
				in, out := e.hop(hop)
				if e.HopCount == 1 {
					sent = in
				}
				delivered = out
			}
		default:
			e.of(name, value)
		}
	}
	if e.Hash == (Hash{}) {
		return nil, errNoHash
	}
	if sent > delivered {
		e.FeeMsat = sent - delivered
	}
	return e, nil
}

// hop reads a hop of a route and returns what goes into its channel, and what comes
// out, msat.
func (e *PartStart) hop(object []byte) (in, out uint64) {
	var h Hop
	for name, value := range members(object) {
		switch name {
		case "next_node":
			h.Node.parse(value)
		case "short_channel_id":
			h.Channel.parse(value)
		case "direction":
			h.Direction = direction(value)
		case "channel_in_msat":
			in, _ = number(value)
		case "channel_out_msat":
			out, _ = number(value)
		}
	}
	e.HopCount++
	if len(e.Hops) < maxHops {
		e.Hops = append(e.Hops, h)
	}
	return in, out
}

func parsePartEnd(object []byte) (Event, error) {
	var e PartEnd
	status := ""
	for name, value := range members(object) {
		switch name {
		case "status":
			status = word(value)
		case "duration":
			e.Duration = time.Duration(nanoseconds(value))
		case "error_code":
			code, _ := number(value)
			e.Code = int64(code) //nolint:gosec // wraps for what is no code
		case "error_message":
			e.Reason = word(value)
		case "failed_node_id":
			e.FailedNode.parse(value)
		case "failed_short_channel_id":
			e.FailedChannel.parse(value)
		case "failed_direction":
			e.Direction = direction(value)
		default:
			e.of(name, value)
		}
	}
	e.Success = status == "success"
	switch {
	case e.Hash == (Hash{}):
		return nil, errNoHash
	case !e.Success && status != "failure":
		return nil, errNoOutcome
	}
	return e, nil
}

func parseForward(object []byte) (Event, error) {
	var e Forward
	keyed := false
	for name, value := range members(object) {
		switch name {
		case "payment_hash":
			e.Hash.parse(value)
		case "in_channel":
			e.In.parse(value)
		case "in_htlc_id":
			e.InHTLC, keyed = number(value)
		case "out_channel":
			e.Out.parse(value)
		case "in_msat":
			e.InMsat, _ = number(value)
		case "out_msat":
			e.OutMsat, _ = number(value)
		case "fee_msat":
			e.FeeMsat, _ = number(value)
		case "status":
			e.Status = ForwardStatus(word(value))
		case "failreason":
			e.Reason = word(value)
		case "received_time":
			e.Received = nanoseconds(value)
		case "resolved_time":
			e.Resolved = nanoseconds(value)
		case "created_index":
			e.Created, _ = number(value)
		case "updated_index":
			e.Updated, _ = number(value)
		}
	}
	if e.In == 0 || !keyed {
		return nil, errNoKey
	}
	switch e.Status {
	case ForwardOffered, ForwardSettled, ForwardFailed, ForwardLocalFailed:
		return e, nil
	}
	return nil, errNoState
}

func parseInvoicePaid(object []byte) (Event, error) {
	var e InvoicePaid
	for name, value := range members(object) {
		switch name {
		case "preimage":
			e.Hash.ofPreimage(value)
		case "msat", "amount_msat":
			e.AmountMsat, _ = number(value)
		}
	}
	if e.Hash == (Hash{}) {
		return nil, errNoSecret
	}
	return e, nil
}

func parseBlockAdded(object []byte) (Event, error) {
	var e BlockAdded
	for name, value := range members(object) {
		if height, ok := number(value); name == "height" && ok && height < 1<<32 {
			e.Height = uint32(height)
		}
	}
	if e.Height == 0 {
		return nil, errNoHeight
	}
	return e, nil
}

// Hash is the SHA-256 hash of a payment's preimage.
type Hash [sha256.Size]byte

// String returns the 64 hex digits by which lightningd shows a hash.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

func (h *Hash) parse(value []byte) { unhex(h[:], value) }

// ofPreimage sets h to the hash of the preimage in value, and wipes all copies of the
// preimage that there are.
func (h *Hash) ofPreimage(value []byte) {
	wipeStack() // makes room: if the stack had to grow later, it would leave a copy behind
	h.sum(value)
	wipeStack()
	clear(value)
}

// sum leaves copies of the preimage on the stack: its own, and the hash function's.
//
//go:noinline
func (h *Hash) sum(value []byte) {
	var preimage [32]byte
	if unhex(preimage[:], value) {
		*h = sha256.Sum256(preimage[:])
	}
}

// wipeStack clears the part of the stack that the last call has used. That of sum is
// less than 2 KiB.
//
//go:noinline
func wipeStack() {
	var used [8 << 10]byte
	wipe(&used)
}

// wipe is not inlined, so that what it does is done.
//
//go:noinline
func wipe(b *[8 << 10]byte) { clear(b[:]) }

// NodeID is the public key of a node. Zero: not known.
type NodeID [33]byte

// String returns the 66 hex digits by which lightningd shows a node.
func (n NodeID) String() string { return hex.EncodeToString(n[:]) }

func (n *NodeID) parse(value []byte) { unhex(n[:], value) }

// unhex reads exactly as many bytes as to has. If value is anything else, to stays
// or becomes zero.
func unhex(to, value []byte) bool {
	text := bytes.Trim(value, `"`)
	if len(text) != hex.EncodedLen(len(to)) || len(value) != len(text)+2 {
		return false
	}
	if _, err := hex.Decode(to, text); err != nil {
		clear(to)
		return false
	}
	return true
}
