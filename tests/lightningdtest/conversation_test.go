package lightningdtest

import (
	"io"
	"strings"
	"testing"
)

type discard struct{ io.Writer }

func (discard) Close() error { return nil }

func TestFaults(t *testing.T) {
	const open = `"cli:tracestats#1/cln:tracestats#2"`
	for _, tc := range []struct {
		name, output string
		want         string // in the only fault; empty: none
	}{
		{"result", `{"jsonrpc":"2.0","id":` + open + `,"result":{}}` + "\n\n", ""},
		{"error", `{"jsonrpc":"2.0","id":` + open + `,"error":{"code":-1,"message":"no"}}` + "\n\n", ""},
		{"log", `{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"hello"}}` + "\n\n", ""},
		{"escape in a result", `{"jsonrpc":"2.0","id":` + open + `,"result":"\u003c"}` + "\n\n", ""},
		{"print", "debugging\n\n", "no message"},
		{"print before a message", "debugging\n" + `{"jsonrpc":"2.0","id":` + open + `,"result":{}}` + "\n\n", "no message"},
		{"one newline", `{"jsonrpc":"2.0","id":` + open + `,"result":{}}` + "\n", "in the middle"},
		{"version", `{"jsonrpc":"1.0","id":` + open + `,"result":{}}` + "\n\n", "version"},
		{"no result", `{"jsonrpc":"2.0","id":` + open + `}` + "\n\n", "neither"},
		{"other id", `{"jsonrpc":"2.0","id":"x","result":{}}` + "\n\n", "not open"},
		{"same id in another spelling", `{"jsonrpc":"2.0","id":"cli:tracestats\u00231/cln:tracestats#2","result":{}}` + "\n\n", "not open"},
		{"second answer", strings.Repeat(`{"jsonrpc":"2.0","id":`+open+`,"result":{}}`+"\n\n", 2), "not open"},
		{"other notification", `{"jsonrpc":"2.0","method":"hello","params":{}}` + "\n\n", "announce"},
		{"log level", `{"jsonrpc":"2.0","method":"log","params":{"level":"io","message":"hello"}}` + "\n\n", "level"},
		{"log without message", `{"jsonrpc":"2.0","method":"log","params":{"level":"info"}}` + "\n\n", "without a message"},
		{"escape in a log", `{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"\u003c"}}` + "\n\n", "u003c"},
		{"escape in an error", `{"jsonrpc":"2.0","id":` + open + `,"error":{"code":-1,"message":"\u0026"}}` + "\n\n", "u0026"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConversation(discard{io.Discard})
			if _, err := c.ask(open, "tracestats", nil); err != nil {
				t.Fatal(err)
			}
			c.listen(strings.NewReader(tc.output))
			faults := c.faultsSoFar()
			switch {
			case tc.want == "" && len(faults) > 0:
				t.Errorf("unexpected: %q", faults)
			case tc.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], tc.want)):
				t.Errorf("got %q, want one with %q", faults, tc.want)
			}
		})
	}
}

func TestOpenRequestsEndWithThePlugin(t *testing.T) {
	c := newConversation(discard{io.Discard})
	answer, err := c.ask(`"1"`, "tracestats", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.listen(strings.NewReader(""))
	if m := <-answer; m.err != errHungUp {
		t.Errorf("got %v", m.err)
	}
	if _, err := c.ask(`"2"`, "tracestats", nil); err != errHungUp {
		t.Errorf("afterwards: %v", err)
	}
}
