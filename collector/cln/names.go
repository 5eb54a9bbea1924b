package cln

// Names of lightningd's spans.
const (
	SpanRequest = "jsonrpc"            // a plugin's request, as the plugin saw it; tag id
	SpanCommand = "lightningd/jsonrpc" // lightningd's work on a request; tag method
	SpanBackend = "plugin/bitcoind"    // a request to the bitcoin backend; tag method

	// PrefixXpay begins the names of the spans that later versions of cln-xpay send for
	// each payment: StepPayment and, below it, its steps, named after the request that
	// each of them encloses.
	PrefixXpay  = "xpay/"
	StepPayment = "payment"

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
