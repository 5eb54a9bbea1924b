package recorder

import (
	"fmt"
	"strings"
)

// details describes the part of a payment, or the forward, that s is.
func (s *TraceSpan) details() string {
	var words []string
	add := func(format string, key string) {
		if v, ok := s.Attributes[key]; ok {
			words = append(words, fmt.Sprintf(format, plain(fmt.Sprint(v))))
		}
	}
	if s.pending() {
		_, rest, _ := strings.Cut(s.Detail, " ") // the number is in the row
		words = append(words, "not ended: "+plain(rest))
	}
	if _, ok := s.Attributes[keyPart]; ok {
		add("%s msat,", keyAmount)
		add("fee %s msat,", keyFee)
		if route, ok := s.Attributes[keyRoute].([]string); ok && len(route) > 0 {
			words = append(words, "over "+plain(strings.Join(route, ", ")))
		} else {
			add("over %s hops", keyHops)
		}
	}
	if _, ok := s.Attributes[keyInChannel]; ok {
		add("of %s msat", keyInAmount)
		add("from %s", keyInChannel)
		add("to %s", keyOutChannel)
	}
	return strings.Join(words, " ")
}

// why says why s failed, as far as it is known.
func (s *TraceSpan) why() string {
	if s.Status != StatusFailed {
		return ""
	}
	const nothing = "failed" // also the type where nobody knows why
	reason := nothing
	if s.ErrorType != "" && s.ErrorType != nothing {
		reason += ": " + plain(s.ErrorType)
	}
	switch hop, ok := s.Attributes[keyFailedHop].(int64); {
	case ok && hop == 0:
		reason += ", at this node"
	case ok:
		reason += fmt.Sprintf(", at hop %d", hop)
		if hops, ok := s.Attributes[keyHops].(int64); ok {
			reason += fmt.Sprintf(" of %d", hops)
		}
	}
	if channel := s.text(keyFailedChannel); channel != "" {
		reason += ", channel " + plain(channel)
	}
	if reason == nothing {
		return "" // the mark says that
	}
	return reason
}
