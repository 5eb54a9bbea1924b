package plugin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
	go func() {
		alias, _ := w.take([]byte(`"y"`))
		taken <- alias
	}()
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

// A lightningd that hangs reads no answers, but it is heard when it ends us.
func TestWireHearsANotificationBehindUnansweredRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(io.Discard, slog.New(slog.DiscardHandler))
		in := strings.Repeat(`{"jsonrpc":"2.0","id":"x","method":"tracestats","params":{}}`+"\n\n", 3*maxInFlight) + `{"method":"shutdown"}`
		var passed strings.Builder
		if err := w.inbound(strings.NewReader(in), &passed); err != io.EOF {
			t.Errorf("got %v, want the end of input", err)
		}
		if !strings.Contains(passed.String(), "shutdown") {
			t.Error("the notification did not get through")
		}
		close(w.gone) // ends what waits for an answer
	})
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

// glightning does not answer a request whose method is no string, and the next one
// would wait for that answer for ever.
func TestWireRefusesWhatGlightningCannotAnswer(t *testing.T) {
	for _, request := range []string{
		`{"jsonrpc":"2.0","id":"a","method":5,"params":{}}`,
		`{"jsonrpc":"2.0","id":"a","method":null}`,
		`{"jsonrpc":"2.0","id":"a","method":["getmanifest"]}`,
		`{"jsonrpc":"2.0","id":"a"}`,
	} {
		var out, passed strings.Builder
		w := newWire(&out, slog.New(slog.DiscardHandler))
		if err := w.inbound(strings.NewReader(request+"\n\n"), &passed); err != io.EOF {
			t.Errorf("%s: inbound ended with %v", request, err)
		}
		w.drain(t.Context())
		if got := out.String(); passed.Len() > 0 || !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":"a","error":{"code":-32600,`) {
			t.Errorf("%s: passed on is %q, answered was %q", request, passed.String(), got)
		}
	}
}

// A request that is never answered holds the next one up for maxTurn, and its late
// answer is not taken for that of another.
func TestWireDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(io.Discard, slog.New(slog.DiscardHandler))
		in, send := io.Pipe()
		passed, to := io.Pipe()
		go func() { _ = w.inbound(in, to) }()
		defer send.Close()
		got := newSplitter(passed)
		begin := time.Now()
		for i := range 3 {
			fmt.Fprintf(send, `{"id":%d,"method":"m%[1]d"}`, i)
		}
		for i, after := range []time.Duration{0, maxTurn, 2 * maxTurn} {
			f, err := got.next()
			if m := members(f.body); err != nil || string(m["method"]) != fmt.Sprintf(`"m%d"`, i) || time.Since(begin) != after {
				t.Errorf("passed on is %s, %v after %v; want m%d after %v", f.body, err, time.Since(begin), i, after)
			}
			if i == 1 {
				w.reply([]byte(`{"jsonrpc":"2.0","result":{},"id":"1"}`))
			}
		}
		w.reply([]byte(`{"jsonrpc":"2.0","result":{},"id":"3"}`))
	})
}

func TestWireDrain(t *testing.T) {
	w := newWire(io.Discard, slog.New(slog.DiscardHandler))
	w.drain(t.Context()) // nothing in flight
	alias, _ := w.take([]byte("1"))
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
	alias, _ := w.take([]byte(`"<1>"`))
	w.reply([]byte(`{"jsonrpc":"2.0","result":"\u003cb\u003e \\u003c","id":"` + alias + `"}`))
	w.notify("info", `a < b & "c"`)
	want := `{"jsonrpc":"2.0","id":"<1>","result":"<b> \\u003c"}` + "\n\n" +
		`{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"a < b & \"c\""}}` + "\n\n"
	if got := out.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
