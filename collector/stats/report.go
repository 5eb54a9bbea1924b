package stats

import (
	"time"

	"clntrace/collector/payments"
)

// Report is the answer to tracestats. Its JSON form is a contract, described in the
// README.
type Report struct {
	Version       string    `json:"version"`
	UptimeSeconds int64     `json:"uptime_seconds"`
	Status        Status    `json:"status"`
	Warnings      []string  `json:"warnings"`
	Socket        Socket    `json:"socket"`
	Datagrams     Datagrams `json:"datagrams"`
	Spans         Spans     `json:"spans"`
	Export        Export    `json:"export"`
	Processes     []Process `json:"processes"`
	// Payments are those that lightningd's notifications tell of; nil: nothing is made of
	// them.
	Payments   *payments.State `json:"payments,omitempty"`
	Operations []Operation     `json:"operations"`

	// Requests sums up where requests waited, for the head of the table. In JSON the
	// operations tell that.
	Requests Requests `json:"-"`
	// MoreOperations is how many the limit of the Query left out.
	MoreOperations int `json:"-"`
	// Match is that of the Query.
	Match string `json:"-"`
}

// Status is the state of the collector in one word.
type Status string

// The states a collector can be in.
const (
	StatusOK                 Status = "ok"
	StatusDegraded           Status = "degraded"            // no socket, an option that cannot be used, or an endpoint that refuses
	StatusBackendUnreachable Status = "backend_unreachable" // spans are kept or dropped until it is back
)

// Socket is the state of the trace socket.
type Socket struct {
	Path            string `json:"path"`
	State           string `json:"state"`             // "listening" or "not listening"
	QueueLimit      int    `json:"queue_limit"`       // datagrams; 0: unknown
	QueueFullEvents uint64 `json:"queue_full_events"` // drains that found the kernel's queue, or a sender's buffer, at its limit
	LargestDatagram int    `json:"largest_datagram"`  // bytes
}

// Datagrams counts what arrived on the socket:
// Received = Refused + Malformed + Accepted.
type Datagrams struct {
	Received  uint64 `json:"received"`
	Bytes     uint64 `json:"bytes"`     // of all received
	Refused   uint64 `json:"refused"`   // from a user who is not allowed
	Malformed uint64 `json:"malformed"` // not a span
	Accepted  uint64 `json:"accepted"`
}

// Spans counts spans by where they are:
// Accepted + Synthesized = Exported + Pending + Spooled + SampledOut +
// Filtered + DroppedQueueFull + DroppedSpoolFull + RejectedByBackend.
type Spans struct {
	Exported          uint64  `json:"exported"`            // acknowledged by the endpoint
	Pending           uint64  `json:"pending"`             // in memory
	Spooled           uint64  `json:"spooled"`             // on disk
	SampledOut        uint64  `json:"sampled_out"`         // by clntrace-sample-ratio
	Filtered          uint64  `json:"filtered"`            // by clntrace-drop-spans, or clntrace-payments once spooled, or because exporting is off
	DroppedQueueFull  uint64  `json:"dropped_queue_full"`  // lost: no room in memory
	DroppedSpoolFull  uint64  `json:"dropped_spool_full"`  // lost: no room on disk
	RejectedByBackend uint64  `json:"rejected_by_backend"` // lost: refused for good
	Synthesized       uint64  `json:"synthesized"`         // roots of requests, which nobody sent
	Truncated         uint64  `json:"truncated"`           // came cut, without their trace id
	Repaired          uint64  `json:"repaired"`            // of these, got their trace id back
	MissingParents    uint64  `json:"missing_parents"`     // whose parent has not come within 60 s
	RatePerSecond     float64 `json:"rate_per_second"`     // accepted spans, over the last minute
}

// Export is the state of the export and its endpoint.
type Export struct {
	Endpoint    string     `json:"endpoint"`
	Protocol    string     `json:"protocol"`
	State       string     `json:"state"`         // "off", "waiting", "connected", "refusing" or "unreachable"
	Batches     uint64     `json:"batches"`       // requests that were acknowledged
	Retries     uint64     `json:"retries"`       // further attempts at a request
	LastSuccess *time.Time `json:"last_success"`  // null: none yet
	LastError   string     `json:"last_error"`    // of the last hour, or why there is an outage
	LastErrorAt *time.Time `json:"last_error_at"` // null: there was none
	Outage      string     `json:"-"`             // why the endpoint takes no spans, and what to do
	Rejection   string     `json:"-"`             // why it last rejected spans, and what to do; "": before it last changed
	RejectedAt  time.Time  `json:"-"`             // when spans were last rejected; zero: not within the last hour
	AvgMS       float64    `json:"avg_ms"`        // from request to acknowledgement
	P99MS       float64    `json:"p99_ms"`
}

// Process is one sender.
type Process struct {
	Name     string    `json:"name"`
	PID      int32     `json:"pid"`
	Spans    uint64    `json:"spans"`
	Errors   uint64    `json:"errors"`
	LastSeen time.Time `json:"last_seen"`
}

// Operation sums up the spans that have the same process name, span name and
// detail (RPC method or SQL summary).
type Operation struct {
	Process string  `json:"process"`
	Span    string  `json:"span"`
	Detail  string  `json:"detail"`
	Count   uint64  `json:"count"`
	Errors  uint64  `json:"errors"`
	TotalMS float64 `json:"total_ms"`
	AvgUS   float64 `json:"avg_us"`
	P50US   float64 `json:"p50_us"`
	P90US   float64 `json:"p90_us"`
	P99US   float64 `json:"p99_us"`
	MaxUS   uint64  `json:"max_us"`

	// Of the requests that have been paired with lightningd's work on them: how long
	// they waited for it, how long it took, and how long the answer did.
	WaitAvgUS   float64 `json:"wait_avg_us,omitempty"`
	WaitP99US   float64 `json:"wait_p99_us,omitempty"`
	WorkAvgUS   float64 `json:"work_avg_us,omitempty"`
	AnswerAvgUS float64 `json:"answer_avg_us,omitempty"`
	Paired      uint64  `json:"paired,omitempty"` // how many

	Slowest *Slowest `json:"slowest,omitempty"` // of the spans whose traces are still kept
}

// Requests sums up the requests of plugins that have been paired with lightningd's work
// on them.
type Requests struct {
	Paired                   uint64
	WaitAvgMS, WaitP99MS     float64 // until lightningd began to work on them
	Writes                   uint64  // of them, those that write to lightningd's database and are answered at once
	AnswerAvgMS, AnswerP99MS float64 // of those that write, from the work's end to the answer
}

// Slowest is the slowest span of an operation.
type Slowest struct {
	TraceID   string    `json:"trace_id"`
	StartedAt time.Time `json:"started_at"` // of the span
}

// SortKey orders the operations of a Report, largest first.
type SortKey string

// What operations can be sorted by.
const (
	SortTotal  SortKey = "total"
	SortCount  SortKey = "count"
	SortAvg    SortKey = "avg"
	SortP99    SortKey = "p99"
	SortMax    SortKey = "max"
	SortErrors SortKey = "errors"
)

// SortKeys lists every SortKey, the default first.
var SortKeys = []SortKey{SortTotal, SortCount, SortAvg, SortP99, SortMax, SortErrors}

// Query says which operations a Report shows.
type Query struct {
	Limit int     // rows of operations at most
	Sort  SortKey // empty: SortTotal
	Match string  // part of process, span or detail, in any case; empty: all
	Reset bool    // start the operations anew after this report
}

// DatagramsOf returns the part of c that counts datagrams.
func DatagramsOf(c Counts) Datagrams {
	return Datagrams{
		Received: count(c.Received), Bytes: count(c.Bytes), Refused: count(c.Refused),
		Malformed: count(c.Malformed), Accepted: count(c.Accepted),
	}
}

// SpansOf returns the part of c that counts spans.
func SpansOf(c Counts) Spans {
	return Spans{
		Exported: count(c.Exported), Pending: count(c.Pending), Spooled: count(c.Spooled),
		SampledOut: count(c.SampledOut), Filtered: count(c.Filtered),
		DroppedQueueFull: count(c.DroppedQueueFull), DroppedSpoolFull: count(c.DroppedSpoolFull),
		RejectedByBackend: count(c.RejectedByBackend), Synthesized: count(c.Synthesized),
		Truncated: count(c.Truncated), Repaired: count(c.Repaired), MissingParents: count(c.MissingParents),
	}
}

func count(n int64) uint64 { return uint64(max(n, 0)) }
