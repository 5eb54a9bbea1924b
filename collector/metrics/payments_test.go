package metrics

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"clntrace/collector/otlp/otlptest"
	"clntrace/collector/payments"
)

func TestPaymentsThatArrive(t *testing.T) {
	r := otlptest.StartGRPC(t)
	told := true
	m := start(t, config(t, r), io.Discard, func(o *Options) {
		o.Payments = func() (payments.State, bool) { return payments.State{Open: 3, ForwardsOpen: 7}, told }
	})
	m.ObservePayments([]payments.Observation{
		{Kind: payments.KindPart, Outcome: "success", Duration: time.Second}, // has no metric
		{Kind: payments.KindPayment, Outcome: "success", Duration: 2 * time.Second},
		{Kind: payments.KindPayment, Outcome: "mpp_timeout", Failed: true, Duration: time.Minute},
		{Kind: payments.KindForward, Channel: 103 << 40, Outcome: "settled", Duration: 3 * time.Second},
		{Kind: payments.KindAccept, Channel: 103 << 40, Outcome: "offered", Duration: time.Second},
		{Kind: payments.KindDownstream, Channel: 103 << 40, Outcome: "settled", Duration: 2 * time.Second},
	})
	m.flush(t)
	got := slices.DeleteFunc(points(last(r)), func(p string) bool { return strings.HasPrefix(p, "clntrace.") })
	want := []string{
		"cln.forward.duration s 1 1 outcome=offered phase=accept",
		"cln.forward.duration s 1 2 outcome=settled phase=downstream",
		"cln.forward.duration s 1 3 outcome=settled phase=total",
		"cln.forward.open {forward} 7 false",
		"cln.payment.duration s 1 2 outcome=success",
		"cln.payment.duration s 1 60 error.type=mpp_timeout outcome=failed",
		"cln.payment.open {part} 3 false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	for i := range 2 * maxReasons {
		m.ObservePayments([]payments.Observation{{Kind: payments.KindForward, Outcome: fmt.Sprint("made_up_", i), Failed: true}})
	}
	told = false
	m.flush(t)
	all := points(last(r))
	if n := len(slices.DeleteFunc(slices.Clone(all), func(p string) bool { return !strings.HasPrefix(p, "cln.forward.duration") })); n > maxReasons+4 {
		t.Errorf("%d series of forwards", n)
	}
	m.Shutdown(t.Context())
}
