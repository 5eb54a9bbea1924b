// Package detail says what a span is about, below its name: the RPC method of
// a request, or verb and table of a database statement.
//
// It takes a span of package zipkin and gives a short text, by which statistics,
// metrics and traces tell operations apart. It caches the summaries of at most
// maxSummaries statements; a summary has at most maxSummary bytes.
//
// The next room is correlate.
package detail

import (
	"clntrace/collector/request"
	"clntrace/collector/zipkin"
)

// Names of spans that have a detail, and of the tags that it comes from.
const (
	SpanRequest = "jsonrpc"            // a plugin's request, as the plugin saw it; tag id
	SpanCommand = "lightningd/jsonrpc" // lightningd's work on a request; tag method
	SpanBackend = "plugin/bitcoind"    // a request to the bitcoin backend; tag method

	TagID     = "id"
	TagMethod = "method"
	TagQuery  = "query"
)

// IsQuery reports whether spans of that name are database statements. Their tag is
// TagQuery.
func IsQuery(span string) bool { return span == "db_exec_prepared" || span == "db_query_prepared" }

// maxSummaries bounds the cache. A node sends some 400 different statements.
const maxSummaries = 4096

// Reader finds details, and caches those of statements. It is not safe for
// concurrent use. The zero Reader is ready to use.
type Reader struct{ summaries map[string]string }

// Of returns the detail of s, or "".
func (r *Reader) Of(s *zipkin.Span) string {
	switch s.Name {
	case SpanRequest:
		_, method := request.Path(s.Tag(TagID)).Last()
		return method
	case SpanCommand, SpanBackend:
		return s.Tag(TagMethod)
	}
	if IsQuery(s.Name) {
		if query := s.Tag(TagQuery); query != "" {
			return r.summary(query)
		}
	}
	return ""
}

func (r *Reader) summary(query string) string {
	if s, ok := r.summaries[query]; ok {
		return s
	}
	if r.summaries == nil || len(r.summaries) >= maxSummaries {
		r.summaries = make(map[string]string)
	}
	s := summarize(query)
	r.summaries[query] = s
	return s
}
