package recording

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Span is what a whole datagram says. It is read with encoding/json, so that a
// test's expectation owes nothing to the decoder under test.
type Span struct {
	TraceID, ID, ParentID string // lower-case hex; ParentID is empty on roots
	Name                  string
	Start                 time.Time
	Duration              time.Duration
	ServiceName           string
	Tags                  map[string]string
}

// zipkinSpan is the Zipkin v2 form, of which lightningd sends these fields.
type zipkinSpan struct {
	TraceID       string `json:"traceId"`
	ID            string `json:"id"`
	ParentID      string `json:"parentId"`
	Name          string `json:"name"`
	Timestamp     int64  `json:"timestamp"` // µs
	Duration      int64  `json:"duration"`  // µs
	LocalEndpoint struct {
		ServiceName string `json:"serviceName"`
	} `json:"localEndpoint"`
	Tags map[string]string `json:"tags"`
}

// Span parses the datagram. It fails on one that lightningd truncated.
func (d Datagram) Span() (Span, error) {
	var spans []zipkinSpan
	if err := json.Unmarshal(d.Payload, &spans); err != nil {
		return Span{}, err
	}
	if len(spans) != 1 {
		return Span{}, fmt.Errorf("%d spans in one datagram", len(spans))
	}
	z := spans[0]
	return Span{
		TraceID: z.TraceID, ID: z.ID, ParentID: z.ParentID,
		Name:        z.Name,
		Start:       time.UnixMicro(z.Timestamp),
		Duration:    time.Duration(z.Duration) * time.Microsecond,
		ServiceName: z.LocalEndpoint.ServiceName,
		Tags:        z.Tags,
	}, nil
}

// Truncated tells a datagram that lightningd cut because the span did not fit.
func (d Datagram) Truncated() bool {
	return len(d.Payload) == 2048 && d.Payload[2047] == 0
}

// New builds the datagram that lightningd would send for s, field for field
// and, like lightningd, without escaping anything.
func New(s Span) []byte {
	b := fmt.Appendf(nil, `[{"id":"%s","name":"%s","timestamp":%d,"duration":%d,"localEndpoint":{"serviceName":"%s"}`,
		s.ID, s.Name, s.Start.UnixMicro(), s.Duration.Microseconds(), orLightningd(s.ServiceName))
	if s.ParentID != "" {
		b = fmt.Appendf(b, `,"parentId":"%s"`, s.ParentID)
	}
	b = append(b, `,"tags":{`...)
	separator := ""
	for k, v := range s.Tags {
		b = fmt.Appendf(b, `%s"%s":"%s"`, separator, k, v)
		separator = ", "
	}
	b = fmt.Appendf(b, `},"traceId":"%s"}]`, s.TraceID)
	return b
}

// Numbered returns n one-span traces of one name, a microsecond long each,
// with ids that count from first.
func Numbered(name string, first, n int) [][]byte {
	start := time.Now()
	payloads := make([][]byte, n)
	for i := range payloads {
		id := uint64(first + i)
		payloads[i] = New(Span{
			TraceID: "00000000000000c1" + hex16(id), ID: hex16(id), Name: name,
			Start: start.Add(time.Duration(i) * time.Microsecond), Duration: time.Microsecond,
		})
	}
	return payloads
}

func hex16(n uint64) string {
	s := strconv.FormatUint(n, 16)
	return "0000000000000000"[len(s):] + s
}

func orLightningd(serviceName string) string {
	if serviceName == "" {
		return "lightningd"
	}
	return serviceName
}
