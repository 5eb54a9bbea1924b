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
	"clntrace/collector/stats"
)

// Series that were observed before the operator wanted them hidden leave no more, and
// the others go on.
func TestWhatIsHiddenLaterDoesNotLeave(t *testing.T) {
	r := otlptest.StartGRPC(t)
	var hidden bool
	m := start(t, config(t, r), io.Discard, func(o *Options) {
		o.Listen = "127.0.0.1:" + freePort(t)
		o.Hides = func(span, detail string) bool {
			return hidden && (span == "jsonrpc" || span == "request") && detail == "s3cr3t"
		}
		o.HidesPayments = func() bool { return hidden }
	})
	m.Observe(observed)
	m.Observe([]stats.Observation{{Process: xpay, Span: "jsonrpc", Detail: "s3cr3t"}, {Process: xpay, Span: "request", Detail: "s3cr3t"}})
	m.ObserveWaits([]stats.Pairing{{Process: xpay, Span: "jsonrpc", Detail: "s3cr3t", Wait: time.Millisecond}})
	m.ObservePayments([]payments.Observation{{Kind: payments.KindPayment, Outcome: "success", Duration: time.Second}})
	leaves := func() (all []string) {
		m.flush(t)
		for _, accept := range []string{openMetrics, protobuf, "text/plain"} {
			status, body, _ := get(t, "http://"+m.options.Listen+"/metrics", accept)
			if status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			all = append(all, body)
		}
		return append(all, strings.Join(points(last(r)), "\n"))
	}
	for i, text := range leaves() {
		if !strings.Contains(text, "s3cr3t") || !strings.Contains(text, "success") {
			t.Errorf("at first it is not in answer %d: %s", i, text)
		}
	}
	before := slices.DeleteFunc(points(last(r)), func(p string) bool {
		return strings.Contains(p, "s3cr3t") || strings.Contains(p, "success")
	})
	hidden = true
	for i, text := range leaves() {
		if strings.Contains(text, "s3cr3t") || strings.Contains(text, "success") || !strings.Contains(text, "extend_tip") {
			t.Errorf("answer %d tells what was hidden, or nothing: %s", i, text)
		}
	}
	if after := points(last(r)); !slices.Equal(before, after) {
		t.Errorf("the others are\n%s\nnot\n%s", fmt.Sprint(after), fmt.Sprint(before))
	}
	hidden = false
	for i, text := range leaves() {
		if !strings.Contains(text, "s3cr3t") {
			t.Errorf("it is not in answer %d again", i)
		}
	}
}
