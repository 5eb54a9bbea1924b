package export

import (
	"context"
	"fmt"
	"time"

	"clntrace/collector/otlp"
	"clntrace/collector/stats"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

const (
	// maxRetryAfter bounds the wait that a backend can ask for.
	maxRetryAfter = time.Minute
	// outageLogGap is the least time between two log lines of a kind, so that an
	// endpoint that comes and goes, or that gives a new reason for each refusal,
	// does not fill the log.
	outageLogGap = time.Minute
	// errorLife is how long the last error, and why spans were rejected, are shown.
	errorLife = time.Hour
	// minLimit bounds how small requests become for an endpoint that refuses larger
	// ones: one that takes less still gets single spans, at the cost of more attempts.
	minLimit = 16 << 10 // bytes
)

// The states of an endpoint, as tracestats shows them.
const (
	StateOff         = "off"
	StateWaiting     = "waiting" // nothing has been sent yet
	StateConnected   = "connected"
	StateRefusing    = "refusing" // it takes nothing until somebody corrects that, or it rejected the last batch
	StateUnreachable = "unreachable"
)

// noReason is the reason if an endpoint rejects spans without giving one.
const noReason = "it does not say why, perhaps its log does"

// endpointHealth knows which endpoint is in use, how it is doing, and what of that
// has been logged. The lock of the link covers all of it.
//
// It books and logs nothing itself, but returns the lines to log, so that nothing is
// waited for while the lock is held.
type endpointHealth struct {
	link  otlp.Link[*client]
	voice voice.Voice

	report    stats.Export
	limit     int           // of a request, bytes
	since     time.Time     // when the outage began; zero: there is none
	notBefore time.Time     // when the endpoint wants the next attempt
	told      bool          // the outage has been logged
	toldAt    time.Time     // when an outage was last logged
	reason    string        // the last one logged for rejected spans
	reasonAt  time.Time     // when it was logged
	took      stats.Latency // of acknowledged requests
}

func newEndpointHealth(v voice.Voice) *endpointHealth {
	return &endpointHealth{voice: v, limit: maxRequestBytes}
}

// replace brings next, which leads to cfg's endpoint, into use, and returns the
// endpoint before.
func (h *endpointHealth) replace(next *client, cfg otlp.Config) (before otlp.Endpoint) {
	return h.link.Replace(next, cfg, func() {
		h.since, h.notBefore, h.told = time.Time{}, time.Time{}, false
		h.report.Endpoint, h.report.Protocol = cfg.Endpoint.String(), string(cfg.Protocol)
		h.report.State, h.report.LastError, h.report.LastErrorAt = StateWaiting, "", nil
		h.report.Outage, h.report.Rejection = "", ""
		h.reason, h.reasonAt = "", time.Time{} // log what the new endpoint rejects
		h.limit = maxRequestBytes
		if cfg.Endpoint.Off() {
			h.report.State = StateOff
		}
	})
}

// away reports whether the endpoint takes nothing for now.
func (h *endpointHealth) away() bool {
	h.link.Lock()
	defer h.link.Unlock()
	return !h.since.IsZero()
}

// requestLimit is how large a request may be, in bytes: below what the endpoint has
// refused.
func (h *endpointHealth) requestLimit() int {
	h.link.Lock()
	defer h.link.Unlock()
	return h.limit
}

// askedToWait is for how much longer the endpoint has asked for no attempt; 0 or
// less: for none.
func (h *endpointHealth) askedToWait() time.Duration {
	h.link.Lock()
	defer h.link.Unlock()
	return time.Until(h.notBefore)
}

// verdict is what the outcome of an attempt means for its batch.
type verdict int

const (
	taken    verdict = iota // the endpoint took it
	rejected                // the endpoint does not want it
	tooLarge                // the endpoint may take it in parts
	waiting                 // the endpoint is away
	// pointless means that the answer says nothing about the endpoint now in use, or
	// that there is no time left.
	pointless
)

// final reports whether the batch is booked and needs no further attempt.
func (v verdict) final() bool { return v == taken || v == rejected }

// note judges the outcome of an attempt over c. If c is still in use, it records what
// that says about the endpoint and returns the lines to log. ctx is the one that
// could end the attempt, and size that of a request which was too large, in bytes.
func (h *endpointHealth) note(ctx context.Context, c *client, spans int64, size int, failure *otlp.Failure) (v verdict, lines []string) {
	h.link.Lock()
	defer h.link.Unlock()
	now, inUse := time.Now(), h.link.InUse(c)
	switch {
	case failure == nil, failure.Kind == otlp.Partial:
		success := now.UTC().Truncate(time.Second)
		h.report.LastSuccess = &success
		h.report.Batches++
		if inUse {
			lines = h.noteTaken(spans, failure, now)
		}
		return taken, lines
	case !inUse, ctx.Err() != nil:
		return pointless, nil
	case failure.Kind == otlp.Unavailable:
		return waiting, h.noteOutage(StateUnreachable, failure, now)
	case failure.Kind == otlp.Refusing:
		return waiting, h.noteOutage(StateRefusing, failure, now)
	case failure.Kind == otlp.TooLarge && spans > 1:
		h.limit = max(min(h.limit, size/2), minLimit)
		h.report.State = StateConnected
		h.recovered()
		return tooLarge, h.noteRejection(fmt.Sprintf("%s does not take a request of %s (%d kB), halves of it will be sent",
			h.report.Endpoint, text.Number(spans, "span", "spans"), size/1000), 0, failure, now)
	}
	h.report.State = StateRefusing
	h.recovered() // a rejection is an answer, too
	return rejected, h.noteRejection(fmt.Sprintf("%s rejected a batch of %s", h.report.Endpoint, text.Number(spans, "span", "spans")), spans, failure, now)
}

// noteTaken records that the endpoint in use took a batch, or a part of it. The
// caller holds the lock.
func (h *endpointHealth) noteTaken(spans int64, partial *otlp.Failure, now time.Time) (lines []string) {
	h.report.State = StateConnected
	if h.recovered() {
		lines = append(lines, h.report.Endpoint+" takes spans again")
	}
	if partial == nil {
		return lines
	}
	what := fmt.Sprintf("%s took a batch of %s", h.report.Endpoint, text.Number(spans, "span", "spans"))
	n := partial.RejectedOf(spans)
	if n > 0 {
		what += fmt.Sprintf(" but rejected %d of them", n)
	} else {
		what += " and remarked"
	}
	if partial.Reason == "" {
		partial = &otlp.Failure{Kind: otlp.Partial, Reason: noReason, Complete: true}
	}
	return append(lines, h.noteRejection(what, n, partial, now)...)
}

// noteRejection records a reason, and that so many spans were rejected for it. It
// returns the line to log, what followed by the reason, unless that reason was the
// last one logged or another was logged less than outageLogGap ago. The caller
// holds the lock.
func (h *endpointHealth) noteRejection(what string, spans int64, failure *otlp.Failure, now time.Time) (lines []string) {
	explained := failure.Explain(h.voice)
	h.noteError(failure.Reason, now)
	if spans > 0 {
		h.report.Rejection, h.report.RejectedAt = explained, now
	}
	if h.reason == failure.Reason || !h.reasonAt.IsZero() && now.Sub(h.reasonAt) <= outageLogGap {
		return nil
	}
	h.reason, h.reasonAt = failure.Reason, now
	note := " (logged once)"
	if spans > 0 {
		note = h.voice.Say(" (logged once; {statistics} tells how many follow)")
	}
	return []string{what + ": " + explained + note}
}

// noteError records a reason. The caller holds the lock.
func (h *endpointHealth) noteError(reason string, now time.Time) {
	at := now.UTC().Truncate(time.Second)
	h.report.LastError, h.report.LastErrorAt = reason, &at
}

// noteDefect records a panic on the way to the endpoint, and that so many spans were
// lost for it. It returns the lines to log.
func (h *endpointHealth) noteDefect(spans int64, found error) (lines []string) {
	what := "exporting"
	if spans > 0 {
		what += ", " + text.Number(spans, "span is lost", "spans are lost")
	}
	h.link.Lock()
	defer h.link.Unlock()
	return h.noteRejection(what, spans, failureOf(found), time.Now())
}

// noteOutage records that the endpoint takes nothing for now, and in which state that
// leaves it. It returns the line to log, when the outage begins or turns from one state
// into the other. The caller holds the lock.
func (h *endpointHealth) noteOutage(state string, failure *otlp.Failure, now time.Time) (lines []string) {
	if h.since.IsZero() {
		h.since = now
	} else if h.report.State != state {
		h.told = false
	}
	h.notBefore = now.Add(min(failure.RetryAfter, maxRetryAfter))
	h.noteError(failure.Reason, now)
	h.report.State, h.report.Outage = state, failure.Explain(h.voice)
	if h.told || !h.toldAt.IsZero() && now.Sub(h.toldAt) <= outageLogGap {
		return nil
	}
	h.told, h.toldAt = true, now
	return []string{fmt.Sprintf("%s does not take spans, they wait: %s", h.report.Endpoint, h.report.Outage)}
}

// recovered ends an outage, if there is one, and reports whether its end should be
// logged. The caller holds the lock.
func (h *endpointHealth) recovered() (tell bool) {
	if h.since.IsZero() {
		return false
	}
	tell = h.told
	h.since, h.told = time.Time{}, false
	h.link.Wake()
	return tell
}

// noteRetry counts a further attempt at a request.
func (h *endpointHealth) noteRetry() {
	h.link.Lock()
	defer h.link.Unlock()
	h.report.Retries++
}

// noteTime records how long an acknowledged request took.
func (h *endpointHealth) noteTime(took time.Duration) {
	h.link.Lock()
	defer h.link.Unlock()
	h.took.Observe(took)
}

// status returns the state of the endpoint, and since when it has taken nothing; zero
// if it takes something.
func (h *endpointHealth) status() (stats.Export, time.Time) {
	h.link.Lock()
	defer h.link.Unlock()
	r := h.report
	if at := r.LastErrorAt; at != nil && h.since.IsZero() && time.Since(*at) > errorLife {
		r.LastError, r.LastErrorAt = "", nil
	}
	if time.Since(r.RejectedAt) > errorLife {
		r.Rejection, r.RejectedAt = "", time.Time{}
	}
	r.AvgMS, r.P99MS = h.took.MeanMS(), h.took.P99MS()
	return r, h.since
}
