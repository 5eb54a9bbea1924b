package plugin

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
)

// closedWriter is a lightningd that is gone.
type closedWriter struct{}

func (closedWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWireHoldsBackBeyondMaxInFlight(t *testing.T) {
	var out strings.Builder
	w := newWire(&out, slog.New(slog.DiscardHandler))
	for range maxInFlight {
		w.take([]byte(`"x"`))
	}
	taken := make(chan string)
	go func() { taken <- w.take([]byte(`"y"`)) }()
	select {
	case alias := <-taken:
		t.Fatalf("alias %s beyond the limit", alias)
	default:
	}
	w.reply([]byte(`{"jsonrpc":"2.0","result":{},"id":"1"}`))
	if alias := <-taken; alias == "" {
		t.Error("no alias although there is room")
	}
	if got, want := out.String(), `{"jsonrpc":"2.0","id":"x","result":{}}`+"\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWireKeepsReadingWhenNobodyCanReadAnswers(t *testing.T) {
	w := newWire(closedWriter{}, slog.New(slog.DiscardHandler))
	w.notify("info", "this shows that nobody reads")
	in := strings.Repeat(`{"jsonrpc":"2.0","id":"x","method":"tracestats","params":{}}`+"\n\n", 2*maxInFlight)
	if err := w.inbound(strings.NewReader(in), io.Discard); err != io.EOF {
		t.Errorf("got %v, want the end of input", err)
	}
	w.drain(t.Context()) // does not wait for what cannot be answered
}

func TestWirePassesRequestsInTurn(t *testing.T) {
	var out strings.Builder
	w := newWire(&out, slog.New(slog.DiscardHandler))
	in, send := io.Pipe()
	passed, to := io.Pipe()
	ended := make(chan error)
	go func() { ended <- w.inbound(in, to) }()
	got := newSplitter(passed)
	expect := func(method string) {
		t.Helper()
		f, err := got.next()
		if m := members(f.body); err != nil || string(m["method"]) != `"`+method+`"` {
			t.Errorf("passed on is %s, %v; want %s", f.body, err, method)
		}
	}
	_, _ = io.WriteString(send, `{"id":"a","method":"first"}`)
	expect("first")
	_, _ = io.WriteString(send, `{"id":"b","method":"second"}{"method":"shutdown"}`)
	expect("shutdown") // the second waits for an answer to the first, a notification does not
	w.reply([]byte(`{"jsonrpc":"2.0","result":{},"id":"1"}`))
	expect("second")
	w.reply([]byte(`{"jsonrpc":"2.0","result":{},"id":"2"}`))
	send.Close()
	if err := <-ended; err != io.EOF {
		t.Errorf("inbound ended with %v", err)
	}
}

func TestWireDrain(t *testing.T) {
	w := newWire(io.Discard, slog.New(slog.DiscardHandler))
	w.drain(t.Context()) // nothing in flight
	alias := w.take([]byte("1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.drain(ctx) // does not wait longer than it may
	go w.reply([]byte(`{"result":{},"id":"` + alias + `"}`))
	w.drain(t.Context())
	if len(w.pending) != 0 {
		t.Errorf("%d requests in flight", len(w.pending))
	}
}

func TestWireDropsAnswersToNothing(t *testing.T) {
	var out strings.Builder
	w := newWire(&out, slog.New(slog.DiscardHandler))
	for _, answer := range []string{`{"jsonrpc":"2.0","error":{},"id":null}`, `{"jsonrpc":"2.0","result":{},"id":"7"}`, `{}`} {
		w.reply([]byte(answer))
	}
	if out.Len() > 0 {
		t.Errorf("sent %q", out.String())
	}
}

func TestWireShowsPlainText(t *testing.T) {
	var out strings.Builder
	w := newWire(&out, slog.New(slog.DiscardHandler))
	alias := w.take([]byte(`"<1>"`))
	w.reply([]byte(`{"jsonrpc":"2.0","result":"\u003cb\u003e \\u003c","id":"` + alias + `"}`))
	w.notify("info", `a < b & "c"`)
	want := `{"jsonrpc":"2.0","id":"<1>","result":"<b> \\u003c"}` + "\n\n" +
		`{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"a < b & \"c\""}}` + "\n\n"
	if got := out.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
