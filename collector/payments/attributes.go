package payments

import (
	"fmt"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"

	"clntrace/collector/cln"
)

// Class says what an attribute tells about a payment, as the names that
// clntrace-redact-tags understands.
type Class string

// The classes. An attribute without a class is an outcome, which tells nothing of
// who paid whom.
const (
	Outcome Class = ""
	Hash    Class = "payment_hash"
	Amount  Class = "amount"
	Route   Class = "channel"
	Peer    Class = "node"
)

// Classes are those of attributes that tell more than an outcome.
var Classes = []Class{Hash, Amount, Route, Peer}

// Attribute is an attribute of a span, and its class.
type Attribute struct {
	attribute.KeyValue
	Class Class
}

// A key is that of an attribute, and its class.
type key struct {
	attribute.Key
	class Class
}

// classes are those of all keys.
var classes = make(map[attribute.Key]Class)

func define(name attribute.Key, c Class) key {
	classes[name] = c
	return key{name, c}
}

var (
	keyErrorType     = define("error.type", Outcome)
	keyPart          = define("cln.payment.part", Outcome)
	keyParts         = define("cln.payment.parts", Outcome)
	keyFailedParts   = define("cln.payment.failed_parts", Outcome)
	keyHops          = define("cln.payment.hops", Outcome)
	keyFailedHop     = define("cln.payment.failed_hop", Outcome)
	keyHash          = define("cln.payment.hash", Hash)
	keyGroup         = define("cln.payment.group", Hash)
	keyAmount        = define("cln.payment.amount_msat", Amount)
	keyFee           = define("cln.payment.fee_msat", Amount)
	keyRoute         = define("cln.payment.route", Route)
	keyFailedChannel = define("cln.payment.failed_channel", Route)
	keyFailedNode    = define("cln.payment.failed_node", Peer)

	keyForwardStatus = define("cln.forward.status", Outcome)
	keyInChannel     = define("cln.forward.in_channel", Route)
	keyOutChannel    = define("cln.forward.out_channel", Route)
	keyInMsat        = define("cln.forward.in_msat", Amount)
	keyOutMsat       = define("cln.forward.out_msat", Amount)
	keyForwardFee    = define("cln.forward.fee_msat", Amount)
)

// ClassOf returns the class of the attributes with that key. It is not ok if they are
// not about payments or forwards.
func ClassOf(name attribute.Key) (c Class, ok bool) {
	c, ok = classes[name]
	return c, ok
}

func (k key) text(s string) Attribute { return Attribute{k.String(s), k.class} }

func (k key) texts(list []string) Attribute { return Attribute{k.StringSlice(list), k.class} }

func (k key) number(n int) Attribute { return Attribute{k.Int(n), k.class} }

func (k key) msat(n uint64) Attribute {
	return Attribute{k.Int64(int64(min(n, 1<<63-1))), k.class} //nolint:gosec // min
}

// errorFailed is the error.type where nobody knows why something failed.
const errorFailed = "failed"

// maxErrorType bounds an error.type, bytes: it becomes a label of metrics.
const maxErrorType = 64

// errorType makes an error.type of lightningd's or xpay's reason. A reason that is
// no name, but a sentence, may tell anything.
func errorType(reason string) string {
	name := strings.ToLower(strings.TrimPrefix(reason, "WIRE_"))
	if name == "" || len(name) > maxErrorType {
		return errorFailed
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return errorFailed
		}
	}
	return name
}

// Facts are what there is to say of a span.
type Facts struct {
	Kind      Kind
	ErrorType string // empty: it did not fail
	// Reason is the description that xpay gives. Where it is not the same as
	// ErrorType it may hold anything.
	Reason     string
	Attributes []Attribute
	// Approximate says that a time of the span is that of a notification's arrival.
	Approximate bool
	// Paid and Unpaid say of the root of a request whether a part of its payments has
	// succeeded. Neither: nobody knows.
	Paid, Unpaid bool
	// Channel and Outcome are those of its Observation.
	Channel cln.Channel
	Outcome string
}

// Description is the description of the span's status in mode m, or "".
func (f *Facts) Description(m Mode) string {
	if m == All && f.Reason != "" {
		return f.Reason
	}
	return f.ErrorType
}

// PartResult is what the notifications said of a part of a payment.
type PartResult struct {
	cln.Part
	Success   bool
	ErrorType string // empty: it succeeded
	Reason    string // as in Facts

	AmountMsat, FeeMsat, TotalMsat uint64
	Route                          []cln.Hop
	Hops                           int // -1: how the part began is not known

	FailedHop       int // 0: this node, 1: the first peer, …; -1: not known
	FailedNode      cln.NodeID
	FailedChannel   cln.Channel
	FailedDirection uint8
}

func newPartResult(p *part, e cln.PartEnd) *PartResult {
	r := &PartResult{Part: e.Part, Success: e.Success, Hops: -1, FailedHop: -1}
	if p != nil {
		r.AmountMsat, r.FeeMsat, r.TotalMsat = p.start.AmountMsat, p.start.FeeMsat, p.start.TotalMsat
		r.Route, r.Hops = p.start.Hops, p.start.HopCount
	}
	if !e.Success {
		r.ErrorType, r.Reason = errorType(e.Reason), e.Reason
		r.FailedNode, r.FailedChannel, r.FailedDirection = e.FailedNode, e.FailedChannel, e.Direction
		r.FailedHop = r.failedHop()
	}
	return r
}

// failedHop finds who reported the error. xpay names no node if it is this one, and
// no channel if it is the destination.
func (r *PartResult) failedHop() int {
	for i, hop := range r.Route {
		if r.FailedNode != (cln.NodeID{}) && hop.Node == r.FailedNode {
			return i + 1
		}
	}
	if r.FailedNode == (cln.NodeID{}) && len(r.Route) > 0 && r.FailedChannel == r.Route[0].Channel {
		return 0
	}
	return -1
}

// Facts returns what there is to say of the part's span.
func (r *PartResult) Facts() *Facts {
	return &Facts{
		Kind: KindPart, ErrorType: r.ErrorType, Reason: r.Reason, Attributes: r.attributes(),
		Channel: r.channel(), Outcome: r.outcome(),
	}
}

// channel is the part's first one; 0: unknown.
func (r *PartResult) channel() cln.Channel {
	if len(r.Route) == 0 {
		return 0
	}
	return r.Route[0].Channel
}

func (r *PartResult) outcome() string {
	if r.Success {
		return outcomeSuccess
	}
	return r.ErrorType
}

func (r *PartResult) attributes() []Attribute {
	list := []Attribute{keyPart.number(int(r.Number))} //nolint:gosec // small
	if r.Hops >= 0 {
		list = append(list, keyHops.number(r.Hops))
	}
	if !r.Success {
		list = append(list, keyErrorType.text(r.ErrorType))
	}
	if r.FailedHop >= 0 {
		list = append(list, keyFailedHop.number(r.FailedHop))
	}
	list = append(list, hashAttributes(r.Hash, r.Group)...)
	if r.Hops >= 0 {
		list = append(list, keyAmount.msat(r.AmountMsat), keyFee.msat(r.FeeMsat))
	}
	if len(r.Route) > 0 {
		route := make([]string, len(r.Route))
		for i, hop := range r.Route {
			route[i] = directed(hop.Channel, hop.Direction)
		}
		list = append(list, keyRoute.texts(route))
	}
	if r.FailedChannel != 0 {
		list = append(list, keyFailedChannel.text(directed(r.FailedChannel, r.FailedDirection)))
	}
	if r.FailedNode != (cln.NodeID{}) {
		list = append(list, keyFailedNode.text(r.FailedNode.String()))
	}
	return list
}

func directed(c cln.Channel, direction uint8) string { return fmt.Sprintf("%v/%d", c, direction) }

func hashAttributes(h cln.Hash, group uint64) []Attribute {
	var list []Attribute
	if h != (cln.Hash{}) {
		list = append(list, keyHash.text(h.String()))
	}
	if group != 0 {
		list = append(list, keyGroup.text(strconv.FormatUint(group, 10)))
	}
	return list
}
