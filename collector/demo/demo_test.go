package demo

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be the demo's sender, as clntrace itself is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == SenderCommand {
		if err := Sender(os.Args[2], os.Stdin); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func TestRun(t *testing.T) {
	var out, log bytes.Buffer
	const patience = 5 * time.Minute // a busy machine may take long
	o := options{version: "test", out: &out, log: &log, patience: patience, exportTime: patience}
	if err := run(context.Background(), o); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	for _, want := range []string{
		"lightningd/startup", "plugins/init", // the start's tree
		"── xpay ", "getroutes", // the payment's
		"760 accepted", "782 exported", // 604 spans of the start, 156 of the payment, 22 roots of requests
		"cln-xpay", "cln-askrene", "chanbackup", // from processes of their own names
		"782 spans in",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if strings.Contains(out.String(), "demo.test") {
		t.Error("a span came from the test binary under its own name")
	}
	if t.Failed() || testing.Verbose() {
		t.Log(out.String(), log.String())
	}
}
