package cln

// maxSummaries bounds the cache. A node sends some 400 different statements.
const maxSummaries = 4096

// Reader finds details, and caches those of statements. It is not safe for
// concurrent use. The zero Reader is ready to use.
type Reader struct{ summaries map[string]string }

// Tags are the tags of a span.
type Tags interface {
	// Tag returns the value of the tag named key, or "".
	Tag(key string) string
}

// Of returns the detail of a span with that name and those tags, or "".
func (r *Reader) Of(name string, tags Tags) string {
	switch name {
	case SpanRequest:
		_, method := Path(tags.Tag(TagID)).Last()
		return method
	case SpanCommand, SpanBackend:
		return tags.Tag(TagMethod)
	}
	if IsQuery(name) {
		if query := tags.Tag(TagQuery); query != "" {
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
