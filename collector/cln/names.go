package cln

import "strings"

// Names of lightningd's spans.
const (
	SpanRequest = "jsonrpc"            // a plugin's request, as the plugin saw it; tag id
	SpanCommand = "lightningd/jsonrpc" // lightningd's work on a request; tag method
	SpanBackend = "plugin/bitcoind"    // a request to the bitcoin backend; tag method

	SpanExtendTip = "extend_tip" // lightningd looks whether there is a new block

	spanExec  = "db_exec_prepared"  // a database statement that changes something; tag query
	spanQuery = "db_query_prepared" // one that reads; tag query
)

// Names of lightningd's tags.
const (
	TagID     = "id"
	TagMethod = "method"
	TagQuery  = "query"
	TagError  = "error" // "true" or "false"; absent if the request was never answered
)

// IsQuery reports whether spans of that name are database statements. Their tag is
// TagQuery.
func IsQuery(span string) bool { return span == spanExec || span == spanQuery }

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

// Methods of lightningd that cln-xpay calls for each part of a payment.
const (
	MethodReserve  = "askrene-reserve"
	MethodSendPart = "injectpaymentonion"
)
