package policy

import (
	"fmt"
	"slices"
	"testing"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/payments"
	"clntrace/collector/process"
)

// A pattern matches the name as sent, the name that leaves, and the text under WHAT.
func TestPatternsMatchWhatUsersSee(t *testing.T) {
	named := func(name, program, detail string) *correlate.Span {
		s := newSpan(1, name)
		s.Process, s.Detail = &process.Identity{Name: program}, detail
		return s
	}
	root := named("xpay", "cln-xpay", "xpay")
	root.Synthetic = true
	forward := named("forward downstream", cln.Daemon, "")
	forward.Synthetic = true
	forward.Payment = &payments.Facts{Kind: payments.KindDownstream, Channel: 103<<40 | 2<<16, Outcome: "temporary_channel_failure"}
	part := named("jsonrpc", "cln-xpay", "injectpaymentonion")
	part.Payment = &payments.Facts{Kind: payments.KindPart, Channel: 103<<40 | 1<<16, Outcome: "success"}
	for _, tc := range []struct {
		span     *correlate.Span
		patterns []string
	}{
		{named("db_exec_prepared", cln.Daemon, "UPDATE channels"), []string{"db_exec_prepared", "UPDATE channels", "UPDATE *", "* channels"}},
		{named("lightningd/jsonrpc", cln.Daemon, "getinfo"), []string{"lightningd/jsonrpc", "getinfo", "jsonrpc getinfo"}},
		{named("jsonrpc", "pay", "foo:bar.baz(1)"), []string{"jsonrpc", "foo:bar.baz(1)", "jsonrpc foo:*", "*:*"}},
		{named("plugin/bitcoind", cln.Daemon, "getchaininfo"), []string{"plugin/bitcoind getchaininfo", "*bitcoind*"}},
		{root, []string{"xpay", "request xpay", "request *"}},
		{forward, []string{"forward downstream", "forward downstream 103x2x0 temporary_channel_failure", "forward* *failure"}},
		{part, []string{"payment part 103x1x0 success", "jsonrpc injectpaymentonion"}},
	} {
		for _, pattern := range append(tc.patterns, "*") {
			p := New(Config{SampleRatio: 1, Payments: payments.All, DropSpans: []string{"other", pattern}})
			if p.Verdict(tc.span) != Filtered {
				t.Errorf("%q does not match %s %s", pattern, tc.span.Name, tc.span.Detail)
			}
		}
		for _, pattern := range []string{"other", "jsonrp", "channels", "forward downstream 103", "reques"} {
			p := New(Config{SampleRatio: 1, Payments: payments.All, DropSpans: []string{pattern}})
			if p.Verdict(tc.span) != Leaves {
				t.Errorf("%q matches %s %s", pattern, tc.span.Name, tc.span.Detail)
			}
		}
	}
	// What notifications tell must not show while payments stay on the node.
	p := New(Config{SampleRatio: 1, Payments: payments.Local, DropSpans: []string{"payment part *"}})
	if p.Verdict(part) != Leaves {
		t.Error("with local, a notification changes what is exported")
	}
}

func TestPatternsThatMatchNothing(t *testing.T) {
	p := New(Config{SampleRatio: 1, DropSpans: []string{"db_*", "db_exec*", "dbx_*"}})
	pass := func(minutes int, names ...string) {
		for range minutes {
			for i, name := range names {
				p.Verdict(newSpan(uint64(i+1), name))
			}
			p.Traffic()
		}
	}
	check := func(want ...string) {
		t.Helper()
		if got := p.Unmatched(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	pass(IdleMinutes, "db_exec_prepared", "extend_tip")
	check()
	pass(1, "db_exec_prepared", "extend_tip")
	check("dbx_*")
	pass(1, "dbx_y")
	check()
	pass(IdleMinutes+1, "extend_tip")
	check("db_*", "db_exec*", "dbx_*")
	p.Verdict(newSpan(1, "db_query_prepared")) // tells at once
	check("db_exec*", "dbx_*")

	off := New(Config{Off: true, DropSpans: []string{"db_*"}})
	for range 2 * IdleMinutes {
		off.Traffic()
	}
	if got := off.Unmatched(); len(got) != 0 {
		t.Errorf("while nothing leaves %q are told", got)
	}
	var none *Policy
	none.Traffic()
	if got := append(none.Unmatched(), New(Config{SampleRatio: 1}).Unmatched()...); len(got) != 0 {
		t.Errorf("without patterns got %q", got)
	}
}

func TestStars(t *testing.T) {
	for pattern, names := range map[string]struct{ yes, no []string }{
		"a":     {[]string{"a"}, []string{"", "aa", "b"}},
		"":      {[]string{""}, []string{"a"}},
		"*":     {[]string{"", "a", "a b\nc"}, nil},
		"a*":    {[]string{"a", "ab"}, []string{"", "ba"}},
		"*a":    {[]string{"a", "ba"}, []string{"", "ab"}},
		"a*a":   {[]string{"aa", "aba"}, []string{"a", "ab"}},
		"a*b*c": {[]string{"abc", "a.b.b.c"}, []string{"ac", "acb", "ab"}},
		"a**b":  {[]string{"ab", "axb"}, []string{"a", "b"}},
		"(.+)*": {[]string{"(.+)x"}, []string{"x"}},
	} {
		p := newPatterns([]string{pattern})[0]
		for _, name := range names.yes {
			if !p.matches(name) {
				t.Errorf("%q does not match %q", pattern, name)
			}
		}
		for _, name := range names.no {
			if p.matches(name) {
				t.Errorf("%q matches %q", pattern, name)
			}
		}
	}
}

func BenchmarkVerdict(b *testing.B) {
	for _, patterns := range [][]string{nil, {"db_*"}, {"db_*", "extend_tip", "jsonrpc getinfo"}} {
		b.Run(fmt.Sprint(len(patterns)), func(b *testing.B) {
			p := New(Config{SampleRatio: 1, DropSpans: patterns})
			s := newSpan(1, "db_exec_prepared")
			s.Process, s.Detail = &process.Identity{Name: cln.Daemon}, "UPDATE channels"
			for b.Loop() {
				p.Verdict(s)
			}
		})
	}
}
