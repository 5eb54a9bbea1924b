package zipkin

import (
	"encoding/json"
	"slices"
	"strings"

	"clntrace/collector/text"
)

// maxTags is how many tags of a span are kept, the first ones by their names.
// lightningd sends at most two. Each costs some 250 bytes until it has been exported,
// and a datagram has room for three hundred.
const maxTags = 16

// decodeJSON decodes any other valid JSON with the same meaning, in case a later
// lightningd orders or escapes its fields in another way.
func (d *Decoder) decodeJSON(datagram []byte, s *Span) error {
	var spans []struct {
		ID            string            `json:"id"`
		TraceID       string            `json:"traceId"`
		ParentID      string            `json:"parentId"`
		Name          string            `json:"name"`
		Timestamp     int64             `json:"timestamp"`
		Duration      json.Number       `json:"duration"`
		Tags          map[string]string `json:"tags"`
		LocalEndpoint struct {
			ServiceName string `json:"serviceName"`
		} `json:"localEndpoint"`
	}
	if json.Unmarshal(datagram, &spans) != nil || len(spans) != 1 {
		return ErrForm
	}
	in := &spans[0]
	if !parseID(s.ID[:], in.ID) || !parseID(s.TraceID[:], in.TraceID) ||
		(in.ParentID != "" && (!parseID(s.ParentID[:], in.ParentID) || !s.ParentID.IsValid())) {
		return ErrID
	}
	s.Name, s.ServiceName = text.Clean(in.Name), text.Clean(in.LocalEndpoint.ServiceName)
	s.Timestamp = in.Timestamp
	if !parseDuration(&s.Duration, in.Duration) {
		return ErrForm
	}
	for key, value := range in.Tags {
		s.Tags = append(s.Tags, Tag{text.Clean(key), text.Clean(value)})
	}
	slices.SortFunc(s.Tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	if len(s.Tags) > maxTags {
		s.Tags = slices.Clone(s.Tags[:maxTags])
	}
	return nil
}

// parseDuration reads a whole number of µs.
func parseDuration(us *int64, number json.Number) bool {
	if n, rest, ok := cutDuration([]byte(number)); ok {
		*us = n
		return len(rest) == 0
	}
	n, err := number.Int64() // a negative one
	*us = n
	return err == nil || number == ""
}

// parseID reads an id of 16 hex digits, or of 32 where dst has room for them:
// Zipkin allows trace ids of 64 bits.
func parseID(dst []byte, digits string) bool {
	if len(digits) != 2*len(dst) && len(digits) != spanIDLen {
		return false
	}
	return decodeHex(dst[len(dst)-len(digits)/2:], []byte(digits))
}
