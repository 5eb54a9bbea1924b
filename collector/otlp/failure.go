package otlp

import (
	"errors"
	"strings"
	"time"

	"clntrace/collector/text"
)

// Kind is what a failure means for the request that failed.
type Kind int

// The kinds of failures.
const (
	Rejected    Kind = iota // the endpoint does not want it, now or later
	Partial                 // the endpoint took it, except for some of it, or with a remark
	TooLarge                // the endpoint would take it in smaller parts
	Refusing                // the endpoint takes nothing, from this sender or at this place, until somebody corrects that
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
	TimedOut   bool          // nobody answered in the time that there was
	Rejected   int64         // spans or data points, of Partial
	RetryAfter time.Duration // how long the endpoint asks us to wait; 0: it does not

	code      string // of the answer: "Unavailable", "HTTP 401"; "": there was none
	comesBack bool   // the endpoint has said when it will take it
	to        Config
	signal    *Signal
	meaning   *meaning // nil: not known
}

// heard returns the failure of a request of signal s to cfg's endpoint: the code of the
// answer, if there was one, and what was said.
func heard(cfg Config, s *Signal, code, said string) *Failure {
	reason := said
	if code != "" {
		reason = code + ": " + said
	}
	return (&Failure{code: code, to: cfg, signal: s}).because(reason)
}

// because sets the reason, and finds its meaning.
func (f *Failure) because(reason string) *Failure {
	reason = hide(reason, f.to.Headers)
	f.Reason = text.Brief(reason)
	f.meaning = meaningOf(f, reason)
	f.Kind = f.meaning.kind
	return f
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

// hide takes the values of headers out of what an endpoint says. They are secrets, and
// some endpoints repeat what they refuse.
func hide(said string, headers map[string]string) string {
	for _, value := range headers {
		parts := strings.Fields(value)
		if len(parts) > 1 {
			parts[0] = value // it is a word like Bearer
		}
		const telling = 4 // bytes; what is shorter is in many texts by chance
		for _, part := range parts {
			if len(part) >= telling {
				said = strings.ReplaceAll(said, part, "[hidden]")
			}
		}
	}
	return said
}
