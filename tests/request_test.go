package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
)

func TestGroupedPayment(t *testing.T) {
	t.Parallel()
	const root = "cli:xpay#3685/cln:xpay#330"
	n, r := launchWith(t, map[string]string{"clntrace-group-requests": "true"})
	datagrams := load(t, recording.Xpay)
	n.Senders(sender).Replay(datagrams)
	isRoot := func(s otlptest.Span) bool {
		return s.Attributes["cln.synthetic"] == true && s.Attributes["cln.request.root"] == "cli:xpay#3685"
	}
	// Nobody sends the root: it comes when nothing new has for 5 s.
	spans := r.Wait(t, "the payment's root", func(spans []otlptest.Span) bool {
		for _, s := range spans {
			if isRoot(s) {
				return true
			}
		}
		return false
	})
	byPath := map[string]otlptest.Span{}
	var payment otlptest.Span
	for _, s := range spans {
		if isRoot(s) {
			payment = s
		}
		if id, ok := s.Attributes["id"].(string); ok {
			byPath[id] = s
		}
	}
	if payment.Name != "xpay" || payment.Kind != "Server" || payment.ParentID != "" || payment.Status != "Unset" {
		t.Errorf("root %+v", payment)
	}
	calls := 0
	for path, s := range byPath {
		if !strings.HasPrefix(path, root+"/") {
			if s.TraceID == payment.TraceID {
				t.Errorf("%s is in the payment's trace", path)
			}
			continue
		}
		calls++
		checkCall(t, path, s, byPath, payment)
	}
	if calls != 10 {
		t.Errorf("%d calls in the payment, want 10", calls)
	}
	if s := stats(t, n); s.Spans.Synthesized < 1 {
		t.Errorf("%d synthesized", s.Spans.Synthesized)
	}
}

// checkCall checks a call's place in the payment's trace.
func checkCall(t *testing.T, path string, s otlptest.Span, byPath map[string]otlptest.Span, payment otlptest.Span) {
	t.Helper()
	parent := payment
	if components := strings.Split(path, "/"); len(components) > 3 {
		parent = byPath[strings.Join(components[:len(components)-2], "/")]
	}
	if s.TraceID != payment.TraceID || s.ParentID != parent.ID || parent.ID == "" {
		t.Errorf("%s: trace %s, parent %s; want %s, %s", path, s.TraceID, s.ParentID, payment.TraceID, parent.ID)
	}
	if s.Start.Before(payment.Start) || s.Start.Add(s.Duration).After(payment.Start.Add(payment.Duration)) {
		t.Errorf("%s reaches out of its root", path)
	}
	for _, kept := range []string{"cln.trace_id", "cln.span_id"} {
		if text, ok := s.Attributes[kept].(string); !ok || text == "" {
			t.Errorf("%s has no %s: %v", path, kept, s.Attributes)
		}
	}
}

// The ids of a request come from its path and lightningd's run alone, so what
// is sent before and after a restart of the plugin is one trace.
func TestRestartKeepsTheIDsOfARequest(t *testing.T) {
	t.Parallel()
	datagrams := load(t, recording.Xpay)
	socket := filepath.Join(lightningdtest.Dir(t), "trace.sock")
	senders := lightningdtest.SendersTo(t, sender, socket) // of one run of lightningd
	run := func() map[string]otlptest.Span {
		r := otlptest.Start(t)
		cfg := config(r, map[string]string{"clntrace-group-requests": "true"})
		cfg.TraceSocket = socket
		n := launch(t, cfg)
		senders.Replay(datagrams)
		r.WaitSpans(t, len(datagrams))
		endCleanly(t, n)
		calls := map[string]otlptest.Span{}
		for _, s := range r.Spans() {
			if id, ok := s.Attributes["id"].(string); ok {
				calls[id] = s
			}
		}
		return calls
	}
	first, second := run(), run()
	if len(first) != 12 || len(second) != len(first) {
		t.Errorf("%d and %d calls, want 12", len(first), len(second))
	}
	for path, s := range first {
		if again := second[path]; again.TraceID != s.TraceID || again.ID != s.ID || again.ParentID != s.ParentID {
			t.Errorf("%s was %s/%s under %s, and is %s/%s under %s", path, s.TraceID, s.ID, s.ParentID, again.TraceID, again.ID, again.ParentID)
		}
	}
}

// An end does not leave requests without their root.
func TestEndClosesOpenRequests(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, map[string]string{"clntrace-group-requests": "true"})
	datagrams := load(t, recording.Pay)
	n.Senders(sender).Replay(datagrams)
	endCleanly(t, n)
	spans := byID(t, r.Spans())
	for _, s := range spans {
		if _, here := spans[s.ParentID]; !here && s.ParentID != "" {
			t.Errorf("the parent of %s %v never came", s.Name, s.Attributes["id"])
		}
	}
}

// With a payment's calls go links to what served them, where that is sure.
func TestLinks(t *testing.T) {
	for _, tc := range []struct {
		group, kind string
	}{
		{"false", "served_by"}, // with grouping what served them is below them
		{"false", "encloses"},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			t.Parallel()
			n, r := launchWith(t, map[string]string{"clntrace-group-requests": tc.group})
			datagrams := load(t, recording.Xpay)
			n.Senders(sender).Replay(datagrams)
			r.WaitSpans(t, len(datagrams))
			endCleanly(t, n)
			spans := r.Spans()
			known := map[string]otlptest.Span{}
			for _, s := range spans {
				known[s.TraceID+s.ID] = s
			}
			links := 0
			for _, s := range spans {
				for _, l := range s.Links {
					if l.Attributes["cln.link"] != tc.kind {
						continue
					}
					links++
					checkLink(t, tc.kind, s, known[l.TraceID+l.SpanID])
				}
			}
			if links == 0 {
				t.Errorf("no %s links", tc.kind)
			}
		})
	}
}

// sentName is the name that lightningd gave the span.
func sentName(s otlptest.Span) string {
	if name, ok := s.Attributes["cln.span.name"].(string); ok {
		return name
	}
	return s.Name
}

func checkLink(t *testing.T, kind string, from, to otlptest.Span) {
	t.Helper()
	if to.ID == "" {
		t.Errorf("a link of %s leads nowhere", from.Name)
		return
	}
	switch kind {
	case "served_by":
		if sentName(from) != "jsonrpc" || sentName(to) != "lightningd/jsonrpc" || from.Attributes["rpc.method"] != to.Attributes["rpc.method"] {
			t.Errorf("%s %v is served by %s %v", from.Name, from.Attributes, to.Name, to.Attributes)
		}
	case "encloses":
		if sentName(to) != "jsonrpc" || to.Resource["process.pid"] == from.Resource["process.pid"] {
			t.Errorf("%s encloses %s %v", from.Name, to.Name, to.Attributes)
		}
	}
	if to.Start.Before(from.Start) || to.Start.After(from.Start.Add(from.Duration)) {
		t.Errorf("%s at %v for %v does not contain the start of %s at %v", from.Name, from.Start, from.Duration, to.Name, to.Start)
	}
}
