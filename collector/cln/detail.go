package cln

import "clntrace/collector/zipkin"

// maxSummaries bounds the cache. A node sends some 400 different statements.
const maxSummaries = 4096

// Reader finds details, and caches those of statements. It is not safe for
// concurrent use. The zero Reader is ready to use.
type Reader struct{ summaries map[string]string }

// Of returns the detail of s, or "".
func (r *Reader) Of(s *zipkin.Span) string {
	switch s.Name {
	case SpanRequest:
		_, method := Path(s.Tag(TagID)).Last()
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
