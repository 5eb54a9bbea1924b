package payments

import "clntrace/collector/cln"

// Mode says what is made of payments and forwards. Each does what those before it do.
type Mode = cln.Payments

// The modes.
const (
	Off      = cln.PaymentsOff   // only the roots of requests are kept open for as long as their payments
	Local    = cln.PaymentsLocal // shown on the node
	Outcomes = cln.PaymentsOutcomes
	All      = cln.PaymentsAll
)

// Shown reports whether attributes of a class may be exported in mode m.
func Shown(m Mode, c Class) bool { return m == All || m == Outcomes && c == Outcome }
