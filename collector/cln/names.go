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
