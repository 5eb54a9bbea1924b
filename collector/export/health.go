package export

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"clntrace/collector/stats"
	"clntrace/collector/text"
)

const (
	// maxRetryAfter bounds the wait that a backend can ask for.
	maxRetryAfter = time.Minute
	// outageLogGap is the least time between two log lines of a kind, so that an
	// endpoint that comes and goes, or that gives a new reason for each refusal,
	// does not fill the log.
	outageLogGap = time.Minute
)

// The states of an endpoint, as tracestats shows them.
const (
	StateOff         = "off"
	StateWaiting     = "waiting" // nothing has been sent yet
	StateConnected   = "connected"
	StateRefusing    = "refusing" // it refused the last batch for good
	StateUnreachable = "unreachable"
)

// noReason is the reason if an endpoint rejects spans without giving one.
const noReason = "it does not say why, perhaps its log does"

// endpointHealth knows which endpoint is in use, how it is doing, and what of that
// has been logged. The link is here rather than in the delivery because one lock has
// to cover both: an endpoint must not be blamed for what the last one has said.
//
// It books and logs nothing itself, but returns the lines to log, so that nothing is
// waited for while its lock is held.
type endpointHealth struct {
	mu        sync.Mutex
	link      *link         // to the endpoint in use; nil: off
	to        Config        // of link
	changed   chan struct{} // closed when link is replaced, and when an outage ends
	report    stats.Export
	since     time.Time // when the outage began; zero: there is none
	notBefore time.Time // when the endpoint wants the next attempt
	told      bool      // the outage has been logged
	toldAt    time.Time // when an outage was last logged
	refusal   string    // the last reason logged for a refusal
	refusalAt time.Time // when it was logged
	totalMS   float64
	took      *hdrhistogram.Histogram // µs, of acknowledged requests
}

func newEndpointHealth() *endpointHealth {
	const slowest = 10 * time.Minute
	return &endpointHealth{
		changed: make(chan struct{}), took: hdrhistogram.New(1, slowest.Microseconds(), 2),
	}
}

// replace brings next, which leads to cfg's endpoint, into use. It returns the last
// link, which the caller closes, and its endpoint.
func (h *endpointHealth) replace(next *link, cfg Config) (last *link, before Endpoint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last, before = h.link, h.to.Endpoint
	h.link, h.to = next, cfg
	h.since, h.notBefore, h.told = time.Time{}, time.Time{}, false
	h.report.Endpoint, h.report.Protocol = cfg.Endpoint.String(), string(cfg.Protocol)
	h.report.State, h.report.LastError, h.report.Refusal = StateWaiting, "", ""
	h.refusal, h.refusalAt = "", time.Time{} // log what the new endpoint refuses
	if cfg.Endpoint.Off() {
		h.report.State = StateOff
	}
	h.wake()
	return last, before
}

// wake ends the waits for a change. The caller holds h.mu.
func (h *endpointHealth) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// current returns the link in use, nil if the endpoint is off, and a channel that is
// closed when there is another, or when an outage ends.
func (h *endpointHealth) current() (*link, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.link, h.changed
}

// away reports whether the last attempt found the endpoint unreachable.
func (h *endpointHealth) away() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.since.IsZero()
}

// askedToWait is for how much longer the endpoint has asked for no attempt; 0 or
// less: for none.
func (h *endpointHealth) askedToWait() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Until(h.notBefore)
}

// verdict is what the outcome of an attempt means for its batch.
type verdict int

const (
	taken    verdict = iota // the endpoint took it
	unwanted                // the endpoint refused it for good
	waiting                 // the endpoint is away
	// void means that the answer says nothing about the endpoint now in use, or that
	// there is no time left.
	void
)

// final reports whether the batch is booked and needs no further attempt.
func (v verdict) final() bool { return v == taken || v == unwanted }

// note judges the outcome of an attempt over l. If l is still in use, it records what
// that says about the endpoint and returns the lines to log. ctx is the one that
// could end the attempt.
func (h *endpointHealth) note(ctx context.Context, l *link, spans int64, result *attempt) (v verdict, lines []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, inUse := time.Now(), h.link == l
	switch {
	case result.acknowledged:
		success := now.UTC().Truncate(time.Second)
		h.report.LastSuccess = &success
		h.report.Batches++
		if inUse {
			lines = h.noteTaken(spans, result, now)
		}
		return taken, lines
	case !inUse, ctx.Err() != nil:
		return void, nil
	case !result.retryable:
		h.report.State = StateRefusing
		h.recovered() // a refusal is an answer, too
		return unwanted, h.complain(fmt.Sprintf("%s refused a batch of %s for good", h.report.Endpoint, text.Number(spans, "span", "spans")), spans, result.message, now)
	}
	return waiting, h.unreachable(result, now)
}

// noteTaken records that the endpoint in use took a batch, or a part of it. The
// caller holds h.mu.
func (h *endpointHealth) noteTaken(spans int64, result *attempt, now time.Time) (lines []string) {
	h.report.State = StateConnected
	if h.recovered() {
		lines = append(lines, h.report.Endpoint+" takes spans again")
	}
	if rejected := result.rejectedOf(spans); rejected > 0 || result.message != "" {
		reason := cmp.Or(result.message, noReason)
		what := fmt.Sprintf("%s took a batch of %s", h.report.Endpoint, text.Number(spans, "span", "spans"))
		if rejected > 0 {
			what += fmt.Sprintf(" but rejected %d of them", rejected)
		} else {
			what += " and remarked"
		}
		lines = append(lines, h.complain(what, rejected, reason, now)...)
	}
	return lines
}

// complain records a reason, and that spans were lost for it if any were. It
// returns the line to log, what followed by the reason, unless that reason was the
// last one logged or another was logged less than outageLogGap ago. The caller
// holds h.mu.
func (h *endpointHealth) complain(what string, lost int64, reason string, now time.Time) (lines []string) {
	h.report.LastError = reason
	if lost > 0 {
		h.report.Refusal = reason
	}
	if h.refusal == reason || !h.refusalAt.IsZero() && now.Sub(h.refusalAt) <= outageLogGap {
		return nil
	}
	h.refusal, h.refusalAt = reason, now
	note := " (logged once)"
	if lost > 0 {
		note = " (logged once; tracestats counts the rest as rejected_by_backend)"
	}
	return []string{what + ": " + h.to.ExplainRefusal(reason) + note}
}

// noteDefect records a panic on the way to the endpoint, and that spans were lost for
// it if any were. It returns the lines to log.
func (h *endpointHealth) noteDefect(lost int64, found error) (lines []string) {
	what := "exporting"
	if lost > 0 {
		what += ", " + text.Number(lost, "span is lost", "spans are lost")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.complain(what, lost, text.Brief(found.Error()), time.Now())
}

// unreachable records that the endpoint is away. The caller holds h.mu.
func (h *endpointHealth) unreachable(result *attempt, now time.Time) (lines []string) {
	if h.since.IsZero() {
		h.since = now
	}
	h.notBefore = now.Add(min(result.retryAfter, maxRetryAfter))
	h.report.State, h.report.LastError = StateUnreachable, result.message
	if h.told || !h.toldAt.IsZero() && now.Sub(h.toldAt) <= outageLogGap {
		return nil
	}
	h.told, h.toldAt = true, now
	return []string{fmt.Sprintf("%s does not take spans, they wait: %s", h.report.Endpoint, h.to.ExplainOutage(result.message))}
}

// recovered ends an outage, if there is one, and reports whether its end should be
// logged. The caller holds h.mu.
func (h *endpointHealth) recovered() (tell bool) {
	if h.since.IsZero() {
		return false
	}
	tell = h.told
	h.since, h.told = time.Time{}, false
	h.wake()
	return tell
}

// noteRetry counts a further attempt at a request.
func (h *endpointHealth) noteRetry() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.report.Retries++
}

// noteTime records how long an acknowledged request took.
func (h *endpointHealth) noteTime(took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.took.RecordValue(min(took.Microseconds(), h.took.HighestTrackableValue())) // cannot fail within its range
	h.totalMS += took.Seconds() * 1000
}

// status returns the state of the endpoint, and since when it has been unreachable;
// zero if it is not.
func (h *endpointHealth) status() (stats.Export, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.report
	if n := h.took.TotalCount(); n > 0 {
		r.AvgMS = h.totalMS / float64(n)
		r.P99MS = float64(h.took.ValueAtQuantile(99)) / 1000
	}
	return r, h.since
}
