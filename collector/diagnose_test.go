package collector

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"clntrace/collector/export"
	"clntrace/collector/otlp"
	"clntrace/collector/payments"
	"clntrace/collector/socket"
	"clntrace/collector/spool"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
	"clntrace/collector/zipkin"
)

// healthy are the facts of a collector with which all is well.
func healthy() facts {
	return facts{
		voice:     voice.Plugin,
		link:      socket.Status{Listening: true, Path: "/run/t.sock", QueueLimit: 10},
		config:    Config{Config: export.Config{Config: otlp.Config{Endpoint: otlp.DefaultEndpoint(otlp.ProtocolGRPC)}}},
		report:    stats.Report{Export: stats.Export{Endpoint: "http://x:1", State: "connected"}},
		spansCame: true,
	}
}

var diagnoses = []struct {
	what   string
	change func(*facts)
	status stats.Status
	want   []string // one warning for each, of which this is a part; * stands for any text in between
}{
	{"all is well", func(*facts) {}, stats.StatusOK, nil},
	{"no socket", func(f *facts) { f.link = socket.Status{Problem: "it is gone"} }, stats.StatusDegraded, []string{"No span can be received: it is gone."}},
	{"options", func(f *facts) { f.problems = []string{"a is wrong", "b is wrong."} }, stats.StatusDegraded,
		[]string{"a is wrong.", "b is wrong. " + UntilCorrected + "."}},
	{"an outage", func(f *facts) {
		f.outage, f.report.Export.Outage = time.Unix(1795324398, 0), "connection refused"
	}, stats.StatusBackendUnreachable, []string{"http://x:1 has not taken spans since 2026-11-22T05:13:18Z: *connection refused*Spans wait while there is room."}},
	{"an endpoint that refuses", func(f *facts) {
		f.outage, f.report.Export.State = time.Unix(1795324398, 0), export.StateRefusing
	}, stats.StatusDegraded, []string{"has not taken spans since"}},
	{"silence, not long", func(f *facts) { f.silent = silenceLimit }, stats.StatusOK, nil},
	{"silence", func(f *facts) { f.silent = 7 * time.Minute }, stats.StatusOK, []string{"No span has come for 7 minutes. *does it hang?"}},
	{"silence from the start", func(f *facts) { f.silent, f.spansCame = 6*time.Minute, false }, stats.StatusOK,
		[]string{"No span has come for 6 minutes. *CLN_TRACE_SOCKET=/run/t.sock? *restart the node."}},
	{"silence of a socket that is not there", func(f *facts) { f.silent, f.link.Listening = time.Hour, false }, stats.StatusOK, nil},
	{"users who cannot send", func(f *facts) { f.link.Closed = "chmod failed" }, stats.StatusOK, []string{"The users of OPTION(allow-uids) cannot send: chmod failed."}},
	{"kernel queue", func(f *facts) { f.link.QueueFull = 14 }, stats.StatusOK,
		[]string{"The kernel's queue holds 11 datagrams and was full 14 times: *sysctl -w net.unix.max_dgram_qlen=512' and restart clntrace; in Docker *Kubernetes"}},
	{"large kernel queue", func(f *facts) { f.link.QueueFull, f.link.QueueLimit = 1, 512 }, stats.StatusOK,
		[]string{"The kernel's queue holds 513 datagrams and was full once: *more CPU"}},
	{"a sender's buffer", func(f *facts) {
		f.link.QueueLimit, f.link.SenderFull, f.link.SenderBuffer = 512, 3, 212992
	}, stats.StatusOK, []string{"(net.core.wmem_default, 212992 bytes) was full 3 times, *queue of 513: *sysctl -w net.core.wmem_default=1048576' *restart the node"}},
	{"payments that are open, not long", func(f *facts) { f.report.Payments = &payments.State{Open: 3, OldestOpenSeconds: 600} }, stats.StatusOK, nil},
	{"payments that are open", func(f *facts) {
		f.report.Payments = &payments.State{Open: 3, ForwardsOpen: 1, OldestOpenSeconds: 4000}
	}, stats.StatusOK, []string{"Open: 3 parts of payments and 1 forward, one of them for 66 minutes: *listhtlcs"}},
	{"missing parents", func(f *facts) { f.report.Spans.MissingParents = 32 }, stats.StatusOK,
		[]string{"32 spans name a parent *queue is small (11): raise net.unix.max_dgram_qlen to 512"}},
	{"missing parents, large queue", func(f *facts) { f.report.Spans.MissingParents, f.link.QueueLimit = 1, 512 }, stats.StatusOK,
		[]string{"1 span names a parent *Processes that die leave such spans, too."}},
	{"missing parents, full queue", func(f *facts) { f.report.Spans.MissingParents, f.link.QueueFull = 32, 1 }, stats.StatusOK,
		[]string{"The kernel's queue", "32 spans name a parent *no room for them: see above"}},
	{"missing parents, full buffer", func(f *facts) { f.report.Spans.MissingParents, f.link.SenderFull = 32, 1 }, stats.StatusOK,
		[]string{"A sender's own buffer", "32 spans name a parent *no room for them: see above"}},
	{"cut spans", func(f *facts) { f.report.Spans.Truncated, f.report.Spans.Repaired = 4, 3 }, stats.StatusOK,
		[]string{"4 spans were longer *3 got their trace id back *cln.truncated=true"}},
	{"a cut span", func(f *facts) { f.report.Spans.Truncated = 1 }, stats.StatusOK, []string{"1 span was longer"}},
	{"other users", func(f *facts) { f.report.Datagrams.Refused = 7 }, stats.StatusOK,
		[]string{"7 datagrams came from users *To accept them, list the users in OPTION(allow-uids)."}},
	{"queue of spans", func(f *facts) { f.report.Spans.DroppedQueueFull = 5 }, stats.StatusOK,
		[]string{"5 spans were dropped *Raise OPTION(queue-size), or export less with OPTION(sample-ratio)."}},
	{"a flood", func(f *facts) { f.link.Dropped, f.report.Spans.DroppedQueueFull = 9, 9 }, stats.StatusOK,
		[]string{"9 datagrams were dropped *faster than they could be decoded*/run/t.sock"}},
	{"queue of spans, in a flood", func(f *facts) { f.link.Dropped, f.report.Spans.DroppedQueueFull = 9, 14 }, stats.StatusOK,
		[]string{"5 spans were dropped", "9 datagrams were dropped"}},
	{"a spool that cannot be used", func(f *facts) { f.spool = spool.Status{Limit: 1 << 20, Problem: errors.New("read-only")} }, stats.StatusOK,
		[]string{"Spans cannot be kept on disk *read-only."}},
	{"no spool", func(f *facts) { f.spool.Problem = errors.New("none is wanted") }, stats.StatusOK, nil},
	{"a small spool, never a whole MiB full", func(f *facts) {
		f.report.Spans.Spooled, f.spool = 1, spool.Status{Bytes: 970_000, Limit: 1 << 20}
	}, stats.StatusOK, []string{"holds 0.9 of 1 MiB. *raise OPTION(spool-size)"}},
	{"a spool of enough size", func(f *facts) {
		f.report.Spans.Spooled, f.spool = 1, spool.Status{Bytes: 800_000, Limit: 1 << 20}
	}, stats.StatusOK, nil},
	{"a spool that has dropped", func(f *facts) {
		f.report.Spans.DroppedSpoolFull, f.spool.Limit = 2, 1<<20
	}, stats.StatusOK, []string{"2 spans are lost from the spool: *Raise OPTION(spool-size); see the log."}},
	{"damaged files", func(f *facts) { f.spool = spool.Status{Limit: 1 << 20, Damaged: 1, Dir: "/s"} }, stats.StatusOK,
		[]string{"1 damaged file was set aside in /s."}},
	{"rejected by the endpoint", func(f *facts) {
		f.report.Spans.RejectedByBackend, f.report.Export.Rejection, f.report.Export.LastError = 6, "it wants credentials", "an outage since"
		f.report.Export.RejectedAt, f.rejected = time.Unix(1795324398, 0), time.Minute
	}, stats.StatusDegraded, []string{"http://x:1 rejected 6 spans, they are lost, last at 05:13:18 UTC: it wants credentials."}},
	{"rejected before a setconfig", func(f *facts) {
		f.report.Spans.RejectedByBackend, f.report.Export.RejectedAt, f.rejected = 6, time.Unix(1795324398, 0), 30*time.Minute
	}, stats.StatusOK, []string{"6 spans are lost that were rejected before the endpoint or its headers last changed, at 05:13:18 UTC"}},
	{"rejected long ago", func(f *facts) { f.report.Spans.RejectedByBackend = 6 }, stats.StatusOK, nil},
	{"malformed", func(f *facts) { f.report.Datagrams.Malformed, f.malformed = 8, zipkin.ErrForm }, stats.StatusOK,
		[]string{"8 datagrams were not spans *" + zipkin.ErrForm.Error() + "*/run/t.sock"}},
	{"a defect", func(f *facts) { f.defect = errors.New("boom") }, stats.StatusOK, []string{"Spans ran into boom."}},
	{"metrics that are not sent", func(f *facts) { f.metrics.unsent = errors.New("none are sent") }, stats.StatusOK,
		[]string{"Metrics: none are sent. Correct that in CONFIGURATION and RESTART, or remove OPTION(metrics)."}},
	{"metrics that do not arrive", func(f *facts) { f.metrics.outage, f.metrics.reason = time.Unix(1795324398, 0), "unknown service" }, stats.StatusOK,
		[]string{"http://x:1 has not taken metrics since 2026-11-22T05:13:18Z: unknown service. *remove OPTION(metrics)."}},
	{"nobody can scrape", func(f *facts) { f.metrics.scrape.Problem = errors.New("address already in use") }, stats.StatusOK,
		[]string{"Prometheus cannot scrape: address already in use. Correct OPTION(prometheus-listen) in CONFIGURATION and RESTART. Nothing else is affected."}},
	{"anybody can scrape", func(f *facts) { f.metrics.scrape.Exposed = "[::]:9464" }, stats.StatusOK,
		[]string{"Whoever reaches [::]:9464 can read the metrics, unencrypted. Let only Prometheus reach it, or set OPTION(prometheus-listen)=localhost:port."}},
	{"neither metrics nor spans", func(f *facts) {
		f.metrics.outage, f.outage = time.Unix(1795324398, 0), time.Unix(1795324398, 0)
	}, stats.StatusBackendUnreachable, []string{"has not taken spans"}},
}

func TestDiagnose(t *testing.T) {
	for _, tc := range diagnoses {
		t.Run(tc.what, func(t *testing.T) {
			for _, v := range []voice.Voice{voice.Plugin, voice.Collect} {
				f := healthy()
				f.voice = v
				tc.change(&f)
				status, got := diagnose(f)
				if status != tc.status || got == nil || len(got) != len(tc.want) {
					t.Fatalf("got %s, %q", status, got)
				}
				for i, want := range tc.want {
					if want = spokenBy(v, want); !holds(got[i], want) {
						t.Errorf("got  %s\nwant %s", got[i], want)
					}
					if strings.ContainsAny(got[i], "<>&\n") {
						t.Errorf("lightning-cli would not show this as it is: %s", got[i])
					}
				}
			}
		})
	}
}

// spokenBy puts the names that v has for things in the place of ours.
func spokenBy(v voice.Voice, s string) string {
	s = strings.NewReplacer("CONFIGURATION", v.Configuration, "RESTART", v.Restart).Replace(s)
	for {
		before, rest, ok := strings.Cut(s, "OPTION(")
		if !ok {
			return s
		}
		name, after, _ := strings.Cut(rest, ")")
		s = before + v.Option(name) + after
	}
}

// holds reports whether s has all parts of want, which are separated by *, in order.
func holds(s, want string) bool {
	for part := range strings.SplitSeq(want, "*") {
		_, rest, ok := strings.Cut(s, part)
		if !ok {
			return false
		}
		s = rest
	}
	return true
}

// The demo has one option. What cannot be set is no remedy.
func TestDemoIsNotAdvisedToSetWhatItDoesNotHave(t *testing.T) {
	f := healthy()
	f.voice = voice.Demo
	f.report.Spans.DroppedQueueFull, f.report.Datagrams.Refused = 5, 7
	_, got := diagnose(f)
	want := []string{
		"7 datagrams came from users who are not allowed and were dropped.",
		"5 spans were dropped because too many were waiting in memory.",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlaintextToAnotherHostIsAWarning(t *testing.T) {
	f := healthy()
	var err error
	if f.config.Endpoint, err = otlp.ParseEndpoint("http://192.0.2.1:4317"); err != nil {
		t.Fatal(err)
	}
	status, got := diagnose(f)
	if status != stats.StatusOK || len(got) != 1 || !strings.HasPrefix(got[0], "Spans go to http://192.0.2.1:4317 unencrypted. Use https://") {
		t.Errorf("got %s, %q", status, got)
	}
}
