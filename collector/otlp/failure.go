package otlp

import (
	"errors"
	"time"

	"clntrace/collector/text"
)

// Kind is what a failure means for the request that failed.
type Kind int

// The kinds of failures.
const (
	Rejected    Kind = iota // the endpoint does not want it, now or later
	Partial                 // the endpoint took it, except for some of it, or with a remark
	Unavailable             // the endpoint is away; it can be sent again
)

// Failure is why a request was not taken, or not all of it. The clients of the SDK wrap
// it, so look for it with errors.As, or with FailureOf.
type Failure struct {
	Kind   Kind
	Reason string // in the words of the endpoint or of a library, made fit for a line
	// Complete says that Reason needs no further explanation.
	Complete   bool
	Reached    bool          // there was a connection, so the request may be the problem
	Rejected   int64         // spans or data points, of Partial
	RetryAfter time.Duration // how long the endpoint asks us to wait; 0: it does not

	to     Endpoint
	via    Protocol
	signal *Signal
}

// newFailure returns a failure of a request of signal s to cfg's endpoint.
func newFailure(cfg Config, s *Signal, k Kind, reason string) *Failure {
	return &Failure{Kind: k, Reason: text.Brief(reason), to: cfg.Endpoint, via: cfg.Protocol, signal: s}
}

// Error is the reason.
func (f *Failure) Error() string { return f.Reason }

// FailureOf returns the Failure in an error that a client of the SDK has returned; nil
// for nil. An error without one comes from the client itself, which would refuse the
// same request again.
func FailureOf(err error) *Failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return &Failure{Kind: Rejected, Reason: text.Brief(err.Error())}
}

// RejectedOf is how many of the spans or data points of a request were rejected.
func (f *Failure) RejectedOf(sent int64) int64 {
	switch {
	case f == nil:
		return 0
	case f.Kind == Partial:
		return min(max(f.Rejected, 0), sent)
	}
	return sent
}
