package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/wait"
)

// report is the answer to tracestats, spelled out here so that a change of a name in
// the plugin makes a test fail.
type report struct {
	Version       string         `json:"version"`
	UptimeSeconds int64          `json:"uptime_seconds"`
	Status        string         `json:"status"`
	Warnings      []string       `json:"warnings"`
	Socket        socketState    `json:"socket"`
	Datagrams     datagramCounts `json:"datagrams"`
	Spans         spanCounts     `json:"spans"`
	Export        struct {
		Endpoint    string     `json:"endpoint"`
		Protocol    string     `json:"protocol"`
		State       string     `json:"state"`
		Batches     uint64     `json:"batches"`
		Retries     uint64     `json:"retries"`
		LastSuccess *time.Time `json:"last_success"`
		LastError   string     `json:"last_error"`
		LastErrorAt *time.Time `json:"last_error_at"`
		AvgMS       float64    `json:"avg_ms"`
		P99MS       float64    `json:"p99_ms"`
	} `json:"export"`
	Payments *struct {
		Parts             int64 `json:"parts"`
		Failed            int64 `json:"failed"`
		Open              int64 `json:"open"`
		OldestOpenSeconds int64 `json:"oldest_open_seconds"`
		Forwards          int64 `json:"forwards"`
		ForwardsOpen      int64 `json:"forwards_open"`
		ForwardsFailed    int64 `json:"forwards_failed"`
		Unjoined          int64 `json:"unjoined"`
		Dropped           int64 `json:"dropped"`
	} `json:"payments"`
	Processes  []processRow   `json:"processes"`
	Operations []operationRow `json:"operations"`
}

type socketState struct {
	Path            string `json:"path"`
	State           string `json:"state"`
	QueueLimit      int    `json:"queue_limit"`
	QueueFullEvents uint64 `json:"queue_full_events"`
	LargestDatagram int    `json:"largest_datagram"`
}

type datagramCounts struct {
	Received  uint64 `json:"received"`
	Bytes     uint64 `json:"bytes"`
	Refused   uint64 `json:"refused"`
	Malformed uint64 `json:"malformed"`
	Accepted  uint64 `json:"accepted"`
}

type spanCounts struct {
	Exported          uint64  `json:"exported"`
	Pending           uint64  `json:"pending"`
	Spooled           uint64  `json:"spooled"`
	SampledOut        uint64  `json:"sampled_out"`
	Filtered          uint64  `json:"filtered"`
	DroppedQueueFull  uint64  `json:"dropped_queue_full"`
	DroppedSpoolFull  uint64  `json:"dropped_spool_full"`
	RejectedByBackend uint64  `json:"rejected_by_backend"`
	Synthesized       uint64  `json:"synthesized"`
	Truncated         uint64  `json:"truncated"`
	Repaired          uint64  `json:"repaired"`
	MissingParents    uint64  `json:"missing_parents"`
	RatePerSecond     float64 `json:"rate_per_second"`
}

type processRow struct {
	Name     string    `json:"name"`
	PID      int       `json:"pid"`
	Spans    uint64    `json:"spans"`
	Errors   uint64    `json:"errors"`
	LastSeen time.Time `json:"last_seen"`
}

type operationRow struct {
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

	Paired      uint64  `json:"paired"`
	WaitAvgUS   float64 `json:"wait_avg_us"`
	WaitP99US   float64 `json:"wait_p99_us"`
	WorkAvgUS   float64 `json:"work_avg_us"`
	AnswerAvgUS float64 `json:"answer_avg_us"`
	Slowest     *struct {
		TraceID   string    `json:"trace_id"`
		StartedAt time.Time `json:"started_at"`
	} `json:"slowest"`
}

// identities returns an error unless every datagram and every span of the
// report is in exactly one counter.
func (r report) identities() error {
	d, s := r.Datagrams, r.Spans
	if sum := d.Refused + d.Malformed + d.Accepted; sum != d.Received {
		return fmt.Errorf("%d datagrams received, %d counted: %+v", d.Received, sum, d)
	}
	sum := s.Exported + s.Pending + s.Spooled + s.SampledOut + s.Filtered + s.DroppedQueueFull + s.DroppedSpoolFull + s.RejectedByBackend
	if in := d.Accepted + s.Synthesized; sum != in {
		return fmt.Errorf("%d spans accepted and synthesized, %d counted: %+v", in, sum, s)
	}
	return nil
}

// tracestats asks for a report. It returns an error if that has unknown fields, or if
// the identities do not hold.
func tracestats(n *lightningdtest.Node, params any) (report, error) {
	text, err := n.Call("tracestats", params)
	if err != nil {
		return report{}, err
	}
	var r report
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return report{}, fmt.Errorf("tracestats: %w in %s", err, text)
	}
	return r, r.identities()
}

// stats is tracestats without parameters.
func stats(t testing.TB, n *lightningdtest.Node) report {
	t.Helper()
	r, err := tracestats(n, []any{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// waitStats asks for reports until one satisfies done. The test ends if none
// does within wait.Limit.
func waitStats(t testing.TB, n *lightningdtest.Node, what string, done func(report) bool) report {
	t.Helper()
	return waitStatsFor(t, n, wait.Limit, what, done)
}

func waitStatsFor(t testing.TB, n *lightningdtest.Node, limit time.Duration, what string, done func(report) bool) report {
	t.Helper()
	deadline := time.After(limit)
	ticker := time.NewTicker(wait.Pause)
	defer ticker.Stop()
	for {
		r := stats(t, n)
		if done(r) {
			return r
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited %v for %s; the last report is %+v", limit, what, r)
		}
	}
}

// received waits until the plugin has read n datagrams.
func received(t testing.TB, node *lightningdtest.Node, n uint64) report {
	t.Helper()
	return waitStats(t, node, fmt.Sprintf("%d datagrams", n), func(r report) bool { return r.Datagrams.Received >= n })
}

// settled waits until n datagrams have been accepted, and no span is left in memory.
func settled(t testing.TB, node *lightningdtest.Node, n uint64) report {
	t.Helper()
	return waitStats(t, node, fmt.Sprintf("%d spans to settle", n), func(r report) bool {
		return r.Datagrams.Accepted >= n && r.Spans.Pending == 0
	})
}
