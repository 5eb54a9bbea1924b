package recorder

import (
	"io"
	"time"
)

// List is what listtraces answers without an id, or if an id fits several traces.
type List struct {
	Traces   []Summary `json:"traces"`
	Recorder Status    `json:"recorder"`
	// More counts the traces that a limit has left out.
	More int `json:"-"`
	// Query is what was asked for.
	Query Query `json:"-"`
}

// Status says how full the recorder is.
type Status struct {
	Traces     int   `json:"traces"`
	Spans      int64 `json:"spans"` // those in memory, runs of like statements counted as one
	Bytes      int64 `json:"bytes"`
	LimitBytes int64 `json:"limit_bytes"`
	// Evicted counts the traces that had to make room, or whose root never came.
	Evicted int64 `json:"evicted"`
}

// The states of traces and spans.
const (
	StatusOK     = "ok"
	StatusFailed = "failed"
	StatusOpen   = "open"
)

// Why a trace is kept.
const (
	KeptSlowest = "slowest"
	KeptFailed  = "failed"
	KeptRecent  = "recent"
)

// Summary is a trace without its spans. Empty fields are left out of its JSON.
type Summary struct {
	TraceID    string    `json:"trace_id,omitempty"`
	SpanID     string    `json:"span_id,omitempty"` // of the root, only where all traces have one id
	StartedAt  time.Time `json:"started_at"`
	DurationMS float64   `json:"duration_ms"` // until now, if it is open
	Process    string    `json:"process,omitempty"`
	Span       string    `json:"span,omitempty"`
	Detail     string    `json:"detail,omitempty"`
	Status     string    `json:"status"`
	ErrorType  string    `json:"error_type,omitempty"`
	// FailedIn is the request inside that failed, where nothing says why the trace did.
	FailedIn    string   `json:"failed_in,omitempty"`
	Spans       int      `json:"spans,omitempty"`  // those that were left out included
	Errors      int      `json:"errors,omitempty"` // spans that failed
	PaymentHash string   `json:"payment_hash,omitempty"`
	Kept        []string `json:"kept,omitempty"`
	WaitsFor    string   `json:"waits_for,omitempty"` // only of what is open, where it is known
}

// Answer is what listtraces answers: a List or a Single. Its JSON form is a contract.
type Answer interface {
	// WriteTable writes it as text for a terminal of 80 columns. Its error is that of w.
	WriteTable(w io.Writer) error
}

// Single is what listtraces answers with an id.
type Single struct {
	*Trace `json:"trace"`
}

// Trace is a trace with its spans, by their start.
type Trace struct {
	Summary
	Spans        []TraceSpan `json:"spans"`
	SpansLeftOut int         `json:"spans_left_out,omitempty"` // the shortest, if there are too many
}

// TraceSpan is a span of a trace, or a run of like database statements. Empty fields
// are left out of its JSON.
type TraceSpan struct {
	// TraceID is set if the span is of another trace: that of what served a request.
	TraceID    string         `json:"trace_id,omitempty"`
	SpanID     string         `json:"span_id"`
	ParentID   string         `json:"parent_id,omitempty"`
	Process    string         `json:"process,omitempty"`
	PID        int32          `json:"pid,omitempty"`
	Span       string         `json:"span"`
	Detail     string         `json:"detail,omitempty"`
	OffsetUS   int64          `json:"offset_us"` // from the trace's start
	DurationUS int64          `json:"duration_us"`
	Status     string         `json:"status"`
	ErrorType  string         `json:"error_type,omitempty"`
	WaitUS     *int64         `json:"wait_us,omitempty"`
	WorkUS     *int64         `json:"work_us,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`

	// Of a run, of which the id and the attributes are those of the first: how many
	// statements it has, their times together and the longest of them.
	Count     int   `json:"count,omitempty"`
	BusyUS    int64 `json:"busy_us,omitempty"`
	LongestUS int64 `json:"longest_us,omitempty"`

	servedBelow bool // the trace that served it is in the tree
	serves      bool // it is the root of a trace that served its parent
}
