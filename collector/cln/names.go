package cln

import "strings"

// Daemon is the name of lightningd's executable, and the service name in every
// datagram, whichever process sent it.
const Daemon = "lightningd"

// Names of lightningd's spans.
const (
	SpanRequest = "jsonrpc"            // a plugin's request, as the plugin saw it; tag id
	SpanCommand = ofDaemon + "jsonrpc" // lightningd's work on a request; tag method
	SpanBackend = "plugin/bitcoind"    // a request to the bitcoin backend; tag method

	// PrefixXpay begins the names of the spans that later versions of cln-xpay send for
	// each payment: StepPayment and, below it, its steps, named after the request that
	// each of them encloses.
	PrefixXpay  = "xpay/"
	StepPayment = "payment"

	// SpanWhole stands for a span's name where requests as a whole are counted.
	SpanWhole = "request"

	SpanExtendTip = "extend_tip" // lightningd looks whether there is a new block

	spanExec  = "db_exec_prepared"  // a database statement that changes something; tag query
	spanQuery = "db_query_prepared" // one that reads; tag query
)

// ofDaemon begins the names of some of the spans that only lightningd itself sends.
const ofDaemon = Daemon + "/"

// Names of lightningd's tags.
const (
	TagID       = "id"
	TagMethod   = "method"
	TagQuery    = "query"
	TagError    = "error" // True or False; absent if the request was never answered
	TagModifier = "modifier"
	TagStep     = "step"
)

// Values of TagError.
const (
	True  = "true"
	False = "false"
)

// IsQuery reports whether spans of that name are database statements. Their tag is
// TagQuery.
func IsQuery(span string) bool { return span == spanExec || span == spanQuery }

// What names an operation of a process in few words: it leaves out what is obvious,
// the span's name for a database statement, and lightningd's own name where the process
// says it.
func What(process, span, detail string) string {
	switch {
	case detail == "":
		return span
	case IsQuery(span), span == "":
		return detail
	case process == Daemon:
		return ShortName(span) + " " + detail
	}
	return span + " " + detail
}

// ShortName is the name of a span of lightningd's own, for where it stands beside
// lightningd's name.
func ShortName(span string) string { return strings.TrimPrefix(span, ofDaemon) }

// Recurs reports whether the values of a tag are the same again and again, so that
// they are worth keeping once. Those of other tags (id, payment_hash) are nearly all
// different.
func Recurs(tag string) bool {
	switch tag {
	case TagQuery, TagMethod, TagError, TagModifier, TagStep:
		return true
	}
	return false
}

// StandsAlone reports whether lightningd never gives a span another tag after that one,
// whose value others can choose.
func StandsAlone(tag string) bool { return tag == TagMethod || tag == TagQuery }

// AddsBlock reports whether spans of that name are below a SpanExtendTip that has
// found a block, and only there.
func AddsBlock(span string) bool {
	switch span {
	case "wallet_block_add", "filter_block_txs", "topo_add_utxo", "topo_update_spends":
		return true
	}
	return false
}

// IsForwardUpdate reports whether a statement is the one with which lightningd
// records what has become of a forward.
func IsForwardUpdate(query string) bool {
	return strings.HasPrefix(query, "UPDATE forwards SET") && strings.Contains(query, "updated_index=")
}

// IsForwardInsert reports whether a statement is the one with which lightningd
// records a new forward.
func IsForwardInsert(query string) bool { return strings.HasPrefix(query, "INSERT INTO forwards (") }

// Methods of lightningd that cln-xpay calls for a payment and for each part of it.
const (
	MethodReserve  = "askrene-reserve"
	MethodSendPart = "injectpaymentonion"
	MethodRoutes   = "getroutes"
	// MethodFinish is the last one, when no part is open.
	MethodFinish = "askrene-remove-layer"
)

// Writes reports whether lightningd answers a method at once, and writes to its
// database before it does: then the answer takes as long as the database's COMMIT.
func Writes(method string) bool {
	switch method {
	case "datastore", "deldatastore", "delinvoice", "newaddr", "reserveinputs", "unreserveinputs":
		return true
	}
	return false
}
