package demo

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"clntrace/collector/otlp"
	"clntrace/collector/otlp/otlptest"
	"clntrace/collector/recording"
	"clntrace/collector/zipkin"
)

// TestMain lets the test binary be the demo's sender, as clntrace itself is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == SenderCommand {
		if err := Sender(os.Args[2], os.Stdin, os.Stdout); err != nil {
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
		"This is what clntrace makes of", "how your own node does.\n", // the first line and the last
		"lightningd/startup", "plugins/init", // the start's tree
		": xpay in cln-xpay", "|-getroutes", // the payment's
		"trace      took spans  err  what", " cln-xpay    xpay\n", // in the list of what is kept
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

// A second demo is not more of the first one's traces, and as much of a tree.
func TestRunsHaveIdsOfTheirOwn(t *testing.T) {
	recorded, err := recording.Startup()
	if err != nil {
		t.Fatal(err)
	}
	shape := func(list []recording.Datagram) (ids map[string]bool, children int) {
		ids = make(map[string]bool)
		var decoder zipkin.Decoder
		var parents []string
		for _, d := range list {
			var s zipkin.Span
			if err := decoder.Decode(d.Payload, &s); err != nil {
				t.Fatalf("%v: %s", err, d.Payload)
			}
			trace := s.TraceID.String()
			ids[trace+s.ID.String()] = true
			parents = append(parents, trace+s.ParentID.String())
		}
		for _, p := range parents {
			if ids[p] {
				children++
			}
		}
		return ids, children
	}
	before, children := shape(recorded)
	renew(recorded)
	after, same := shape(recorded)
	if len(after) != len(before) || same != children || children < 500 {
		t.Errorf("%d spans, %d of them children, were %d and %d", len(after), same, len(before), children)
	}
	for id := range after {
		if before[id] {
			t.Fatalf("span %s has its recorded ids", id)
		}
	}
}

// The demo names no option that only the plugin has.
func TestUnknownAuthority(t *testing.T) {
	r := otlptest.StartGRPCOverTLS(t, otlptest.NewAuthority(t).Serving(t, "127.0.0.1", time.Now().Add(time.Hour)))
	endpoint, err := otlp.ParseEndpoint(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	o := options{version: "test", out: &out, log: &log, endpoint: &endpoint, patience: patience, exportTime: time.Second}
	if err := run(t.Context(), o); err == nil {
		t.Error("the spans were taken")
	}
	if !strings.Contains(out.String(), "Not all went well") || strings.Contains(out.String(), "look in your backend") {
		t.Error("it says to look for what is not there")
	}
	said := strings.Join(strings.Fields(out.String()), " ") + log.String()
	if !strings.Contains(said, "Have this machine trust that CA") || strings.Contains(said, "clntrace-otlp") || strings.Contains(said, "ca-file") {
		t.Error(said)
	}
}

// With an endpoint the last lines name what to look for there.
func TestEndpoint(t *testing.T) {
	r := otlptest.StartGRPC(t)
	endpoint, err := otlp.ParseEndpoint(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	if err := run(t.Context(), options{version: "test", out: &out, log: &log, endpoint: &endpoint, patience: patience, exportTime: patience}); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	_, last, _ := strings.Cut(out.String(), "\nNext, look in your backend for\n")
	found := regexp.MustCompile(`(?m)^  service (\S+), operation (\S+),\n    trace ([0-9a-f]{32})$`).FindAllStringSubmatch(last, -1)
	if len(found) != 2 || found[0][1] != "lightningd" || found[0][2] != "lightningd/startup" || found[1][1] != "cln-xpay" || found[1][2] != "xpay" {
		t.Errorf("got %q", last)
	}
}
