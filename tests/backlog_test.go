package tests

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
)

// arrival keeps what arrives, as bytes.
type arrival struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (a *arrival) keep(_ context.Context, r otlptest.Request) error {
	body, err := new(ptrace.ProtoMarshaler).MarshalTraces(r.Traces)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all.Write(body)
	return err
}

func (a *arrival) bytes() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Clone(a.all.Bytes())
}

// hide sets an option, either of the running plugin or before the next start.
func (x *trial) hide(option, value string, restart bool) {
	x.Helper()
	x.set(option, value)
	if restart {
		x.restart()
	} else if err := x.node.SetConfig("clntrace-"+option, value); err != nil {
		x.Fatal(err)
	}
}

// laterHidden runs a test with an option that is set at run time, and over a restart.
func laterHidden(t *testing.T, test func(x *trial, restart bool)) {
	for name, restart := range map[string]bool{"setconfig": false, "restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newTrial(t), restart)
		})
	}
}

// What is redacted after it was spooled does not leave.
func TestRedactionReachesTheSpool(t *testing.T) {
	laterHidden(t, func(x *trial, restart bool) {
		const secret = "s3cr3t"
		var got arrival
		x.r.SetAnswer(got.keep)
		x.set("group-requests", "true").down()
		tagged := func(id, name, tag, value string) []byte {
			return recording.New(recording.Span{TraceID: id + id, ID: id, Name: name, Start: now(), Tags: map[string]string{tag: value}})
		}
		send(x.T, x.sender,
			tagged("0123456789abcde1", "db_query_prepared", "query", "SELECT a FROM "+secret),
			tagged("0123456789abcde2", "jsonrpc", "id", "cli:"+secret+"#1/cln:xpay#2/cln-xpay:"+secret+"#3"),
			tagged("0123456789abcde3", "lightningd/jsonrpc", "method", secret))
		x.until("three spans and a root on disk", func(r report) bool { return r.Spans.Spooled == 4 })
		if stored := files(x.T, x.spool()); !bytes.Contains(stored, []byte(secret)) {
			x.Error("it is not on disk")
		}
		x.hide("redact-tags", "query,id,method", restart)
		x.up().until("all to be sent", func(r report) bool { return r.Spans.Exported == 4 })
		if body := got.bytes(); bytes.Contains(body, []byte(secret)) || !bytes.Contains(body, []byte("[redacted]")) {
			x.Errorf("what arrived tells what is redacted, or nothing: %q", body)
		}
		endCleanly(x.T, x.node)
	})
}

// What tells of payments does not leave if clntrace-payments is lower than when it was
// spooled, and each span is counted.
func TestPaymentsInTheSpoolAreHidden(t *testing.T) {
	for _, mode := range []string{"outcomes", "local", "off"} {
		t.Run(mode, func(t *testing.T) {
			laterHidden(t, func(x *trial, restart bool) {
				var got arrival
				x.r.SetAnswer(got.keep)
				x.set("group-requests", "true").set("payments", "all").down()
				act(x.T, x.node)
				x.until("the payment and the forward to end", func(r report) bool { return operation(r, "payment") && operation(r, "forward") })
				x.restart() // which spools all of it
				expect(x.T, "the spool", files(x.T, x.spool()), "hash channel node amount")
				x.hide("payments", mode, restart)
				r := x.up().until("the spool to be empty", func(r report) bool { return r.Spans.Spooled == 0 && r.Spans.Exported > 0 })
				if s := r.Spans; (s.Filtered > 0) != (mode != "outcomes") || s.Exported+s.Filtered != r.Datagrams.Accepted+s.Synthesized {
					x.Errorf("counted: %+v", s)
				}
				expect(x.T, "what arrived", got.bytes(), "")
				if there := bytes.Contains(got.bytes(), []byte("forward downstream")); there != (mode == "outcomes") {
					x.Errorf("forwards arrived: %v", there)
				}
				endCleanly(x.T, x.node)
			})
		})
	}
}
