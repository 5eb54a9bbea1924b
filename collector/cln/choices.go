package cln

// SpanNames says which name a span has in OTLP.
type SpanNames string

const (
	// SpanNamesSemantic is what the span is about, as the semantic conventions say.
	SpanNamesSemantic SpanNames = "semantic"
	// SpanNamesAsSent is the name that lightningd gave.
	SpanNamesAsSent SpanNames = "as-sent"
)

// Payments says what is made of payments and forwards. Each value includes what those
// before it do.
type Payments int

const (
	// PaymentsOff makes nothing of them.
	PaymentsOff Payments = iota
	// PaymentsLocal shows them on the node alone.
	PaymentsLocal
	// PaymentsOutcomes also exports them, without hashes, amounts, channels and nodes.
	PaymentsOutcomes
	// PaymentsAll exports them with those.
	PaymentsAll
)

var paymentsNames = []string{"off", "local", "outcomes", "all"}

// ParsePayments reads what String writes.
func ParsePayments(s string) (p Payments, found bool) {
	for i, name := range paymentsNames {
		if s == name {
			return Payments(i), true
		}
	}
	return PaymentsOff, false
}

func (p Payments) String() string { return paymentsNames[p] }
