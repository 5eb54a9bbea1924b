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
		now:       time.Unix(1795324398, 0),
	}
}

// grow lets counters grow a minute ago, at 05:12:18 UTC.
func (f *facts) grow(list ...counter) {
	for _, c := range list {
		f.grew[c] = f.now.Add(-time.Minute)
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
	{"silence", func(f *facts) { f.silent = 7 * time.Minute }, stats.StatusOK, []string{"No span has come for 7m. *does it hang?"}},
	{"silence from the start", func(f *facts) { f.silent, f.spansCame = 6*time.Minute, false }, stats.StatusOK,
		[]string{"No span has come for 6m. *CLN_TRACE_SOCKET=/run/t.sock? *restart the node."}},
	{"silence of a socket that is not there", func(f *facts) { f.silent, f.link.Listening = time.Hour, false }, stats.StatusOK, nil},
	{"users who cannot send", func(f *facts) { f.link.Closed = "chmod failed" }, stats.StatusOK, []string{"The users of OPTION(allow-uids) cannot send: chmod failed."}},
	{"kernel queue", func(f *facts) { f.link.QueueFull = 14; f.grow(kernelFull) }, stats.StatusOK,
		[]string{"The kernel's queue holds 11 datagrams and was full 14 times, last at 05:12:18 UTC: *sysctl -w net.unix.max_dgram_qlen=512' and restart clntrace; in Docker *Kubernetes"}},
	{"large kernel queue", func(f *facts) { f.link.QueueFull, f.link.QueueLimit = 1, 512; f.grow(kernelFull) }, stats.StatusOK,
		[]string{"The kernel's queue holds 513 datagrams and was full once, last at *more CPU"}},
	{"a sender's buffer", func(f *facts) {
		f.link.QueueLimit, f.link.SenderFull, f.link.SenderBuffer = 512, 3, 212992
		f.grow(senderFull)
	}, stats.StatusOK, []string{"(net.core.wmem_default, 212992 bytes) was full 3 times, last at 05:12:18 UTC, *queue of 513: *sysctl -w net.core.wmem_default=1048576' *restart the node"}},
	{"payments that are open, not long", func(f *facts) { f.report.Payments = &payments.State{Open: 3, OldestOpenSeconds: 600} }, stats.StatusOK, nil},
	{"payments that are open", func(f *facts) {
		f.report.Payments = &payments.State{Open: 3, ForwardsOpen: 1, OldestOpenSeconds: 4000}
	}, stats.StatusOK, []string{"Open: 3 parts of payments and 1 forward, one of them for 1h6m: *listhtlcs"}},
	{"missing parents", func(f *facts) { f.report.Spans.MissingParents = 32; f.grow(missedParents) }, stats.StatusOK,
		[]string{"32 spans name a parent *60s, last at 05:12:18 UTC: *queue is small (11): raise net.unix.max_dgram_qlen to 512"}},
	{"missing parents, large queue", func(f *facts) { f.report.Spans.MissingParents, f.link.QueueLimit = 1, 512; f.grow(missedParents) }, stats.StatusOK,
		[]string{"1 span names a parent *Processes that die leave such spans, too."}},
	{"missing parents, full queue", func(f *facts) {
		f.report.Spans.MissingParents, f.link.QueueFull = 32, 1
		f.grow(missedParents, kernelFull)
	}, stats.StatusOK,
		[]string{"The kernel's queue", "32 spans name a parent *no room for them: see above"}},
	{"missing parents, full buffer", func(f *facts) {
		f.report.Spans.MissingParents, f.link.SenderFull = 32, 1
		f.grow(missedParents, senderFull)
	}, stats.StatusOK,
		[]string{"A sender's own buffer", "32 spans name a parent *no room for them: see above"}},
	{"cut spans", func(f *facts) { f.report.Spans.Truncated, f.report.Spans.Repaired = 4, 3; f.grow(cutSpans) }, stats.StatusOK,
		[]string{"4 spans were longer *last at 05:12:18 UTC. 3 got their trace id back *cln.truncated=true"}},
	{"a cut span", func(f *facts) { f.report.Spans.Truncated = 1; f.grow(cutSpans) }, stats.StatusOK, []string{"1 span was longer"}},
	{"other users", func(f *facts) { f.report.Datagrams.Refused = 7; f.grow(refusedUsers) }, stats.StatusOK,
		[]string{"7 datagrams came from users *last at 05:12:18 UTC. To accept them, list the users in OPTION(allow-uids)."}},
	{"queue of spans", func(f *facts) { f.report.Spans.DroppedQueueFull = 5; f.grow(queueDropped) }, stats.StatusOK,
		[]string{"5 spans were dropped *last at 05:12:18 UTC. Raise OPTION(queue-size), or export less with OPTION(sample-ratio)."}},
	{"a flood", func(f *facts) {
		f.link.Dropped, f.report.Spans.DroppedQueueFull = 9, 9
		f.grow(ringDropped, queueDropped)
	}, stats.StatusOK,
		[]string{"9 datagrams were dropped *faster than they could be decoded, last at 05:12:18 UTC*/run/t.sock"}},
	{"queue of spans, in a flood", func(f *facts) {
		f.link.Dropped, f.report.Spans.DroppedQueueFull = 9, 14
		f.grow(ringDropped, queueDropped)
	}, stats.StatusOK,
		[]string{"5 spans were dropped", "9 datagrams were dropped"}},
	{"a spool that cannot be used", func(f *facts) { f.spool = spool.Status{Limit: 1 << 20, Problem: errors.New("read-only")} }, stats.StatusOK,
		[]string{"Spans cannot be kept on disk *read-only."}},
	{"a spool that cannot be used, and need not be", func(f *facts) {
		f.spool, f.config.Endpoint = spool.Status{Limit: 1 << 20, Problem: errors.New("read-only")}, otlp.OffEndpoint
	}, stats.StatusOK, nil},
	{"a spool that nothing is added to", func(f *facts) {
		f.report.Spans.Spooled, f.spool, f.config.Endpoint = 1, spool.Status{Bytes: 970_000, Limit: 1 << 20}, otlp.OffEndpoint
	}, stats.StatusOK, nil},
	{"no spool", func(f *facts) { f.spool.Problem = errors.New("none is wanted") }, stats.StatusOK, nil},
	{"a small spool, never a whole MiB full", func(f *facts) {
		f.report.Spans.Spooled, f.spool = 1, spool.Status{Bytes: 970_000, Limit: 1 << 20}
	}, stats.StatusOK, []string{"holds 0.9 of 1 MiB. *raise OPTION(spool-size)"}},
	{"a spool of enough size", func(f *facts) {
		f.report.Spans.Spooled, f.spool = 1, spool.Status{Bytes: 800_000, Limit: 1 << 20}
	}, stats.StatusOK, nil},
	{"a spool that has dropped", func(f *facts) {
		f.report.Spans.DroppedSpoolFull, f.spool.Limit = 2, 1<<20
		f.grow(spoolDropped)
	}, stats.StatusOK, []string{"2 spans are lost from the spool, last at 05:12:18 UTC: *Raise OPTION(spool-size); see the log."}},
	{"damaged files", func(f *facts) { f.spool = spool.Status{Limit: 1 << 20, Damaged: 1, Dir: "/s"}; f.grow(damagedFiles) }, stats.StatusOK,
		[]string{"1 file was set aside in /s, last at 05:12:18 UTC: damaged, or of another version of clntrace; see the log."}},
	{"rejected by the endpoint", func(f *facts) {
		f.report.Spans.RejectedByBackend, f.report.Export.Rejection, f.report.Export.LastError = 6, "it wants credentials", "an outage since"
		f.report.Export.RejectedAt, f.rejected = time.Unix(1795324398, 0), time.Minute
	}, stats.StatusDegraded, []string{"http://x:1 rejected 6 spans, they are lost, last at 05:13:18 UTC: it wants credentials."}},
	{"rejected before a setconfig", func(f *facts) {
		f.report.Spans.RejectedByBackend, f.report.Export.RejectedAt, f.rejected = 6, time.Unix(1795324398, 0), 30*time.Minute
	}, stats.StatusOK, []string{"6 spans are lost that were rejected before the endpoint or its headers last changed, at 05:13:18 UTC"}},
	{"rejected long ago", func(f *facts) { f.report.Spans.RejectedByBackend = 6 }, stats.StatusOK, nil},
	{"malformed", func(f *facts) { f.report.Datagrams.Malformed, f.malformed = 8, zipkin.ErrForm; f.grow(malformed) }, stats.StatusOK,
		[]string{"8 datagrams were not spans *last at 05:12:18 UTC: " + zipkin.ErrForm.Error() + "*/run/t.sock"}},
	{"long waits", func(f *facts) {
		f.waits, f.longest = 3, waited{"cln-xpay", "getroutes", 2300 * time.Millisecond, f.now.Add(-2 * time.Minute), []busy{{"extend_tip", 1900 * time.Millisecond}, {"jsonrpc listpeerchannels", 310 * time.Millisecond}}}
		f.grow(longWaits)
	}, stats.StatusOK, []string{"3 requests waited more than 500ms *last at 05:12:18 UTC. *longest *getroutes of cln-xpay at 05:11:18 UTC: 2.3s. *need not be the cause: extend_tip (1.9s), jsonrpc listpeerchannels (310ms)."}},
	{"a long wait of which nothing is known", func(f *facts) { f.waits = 1; f.grow(longWaits) }, stats.StatusOK, []string{"1 request waited *No span of lightningd tells"}},
	{"slow writes", func(f *facts) { f.writing = 120 * time.Millisecond; f.grow(slowWrites) }, stats.StatusOK,
		[]string{"long to write, last at 05:12:18 UTC: *half took 120ms or more *COMMIT*disk"}},
	{"patterns that match nothing", func(f *facts) { f.unmatched = []string{"dbx_*", "jsonrpc getinfoo"} }, stats.StatusOK,
		[]string{"No span has matched 'dbx_*', 'jsonrpc getinfoo' of OPTION(drop-spans) for 10m or more. *CONFIGURATION"}},
	{"patterns while nothing is exported", func(f *facts) { f.unmatched, f.config.Endpoint = []string{"dbx_*"}, otlp.OffEndpoint }, stats.StatusOK, nil},
	{"a defect", func(f *facts) { f.defect = errors.New("boom"); f.grow(defects) }, stats.StatusOK, []string{"Spans ran into boom, last at 05:12:18 UTC."}},
	{"metrics that are not sent", func(f *facts) { f.metrics.unsent = errors.New("none are sent") }, stats.StatusOK,
		[]string{"Metrics: none are sent. Correct that CONFIGURATION and RESTART, or remove OPTION(metrics)."}},
	{"metrics that do not arrive", func(f *facts) { f.metrics.outage, f.metrics.reason = time.Unix(1795324398, 0), "unknown service" }, stats.StatusOK,
		[]string{"http://x:1 has not taken metrics since 2026-11-22T05:13:18Z: unknown service. *remove OPTION(metrics)."}},
	{"nobody can scrape", func(f *facts) { f.metrics.scrape.Problem = errors.New("address already in use") }, stats.StatusOK,
		[]string{"Prometheus cannot scrape: address already in use. This is tried again every 10 s; if it stays so, correct OPTION(prometheus-listen) CONFIGURATION and RESTART. Nothing else is affected."}},
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
					if strings.Contains(got[i], "\n") {
						t.Errorf("lightning-cli would not show this as it is: %s", got[i])
					}
				}
			}
		})
	}
}

// What rests on a counter that only grows is over an hour after it last grew.
func TestWarningsOfWhatHappenedGoAfterAnHour(t *testing.T) {
	f := healthy()
	f.spool.Limit = 1 << 20
	f.link.QueueFull, f.link.SenderFull, f.link.Dropped = 1, 1, 1
	f.report.Spans = stats.Spans{MissingParents: 1, Truncated: 1, DroppedQueueFull: 2, DroppedSpoolFull: 1}
	f.report.Datagrams = stats.Datagrams{Refused: 1, Malformed: 1}
	f.spool.Damaged, f.defect, f.malformed, f.waits = 1, errors.New("boom"), zipkin.ErrForm, 1
	began := f.now
	for c := range counterNumber {
		f.grew[c] = began
	}
	f.now = began.Add(time.Hour)
	if _, got := diagnose(f); len(got) != int(counterNumber) || slices.ContainsFunc(got, func(w string) bool { return !strings.Contains(w, "last at 05:13:18 UTC") }) {
		t.Errorf("after an hour there are %d warnings of %d: %q", len(got), counterNumber, got)
	}
	f.now = f.now.Add(time.Second)
	if _, got := diagnose(f); len(got) != 0 {
		t.Errorf("after more than an hour there are still %q", got)
	}
}

func TestGrowth(t *testing.T) {
	var g growth
	at := time.Unix(1795324398, 0)
	if got := g.observe(counters{malformed: 1}, at); got[malformed] != at || !got[kernelFull].IsZero() {
		t.Errorf("got %v", got)
	}
	if got := g.observe(counters{malformed: 1, kernelFull: 2}, at.Add(time.Second)); got[malformed] != at || got[kernelFull] != at.Add(time.Second) {
		t.Errorf("got %v", got)
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
	f.grow(queueDropped, refusedUsers)
	_, got := diagnose(f)
	want := []string{
		"7 datagrams came from users who are not allowed and were dropped, last at 05:12:18 UTC.",
		"5 spans were dropped because too many were waiting in memory, last at 05:12:18 UTC.",
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
