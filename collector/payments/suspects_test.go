package payments

import (
	"fmt"
	"testing"

	"clntrace/collector/cln"
)

// ask is what xpay sends when a request of a payment is answered.
func (s *scene) ask(ms int, root, method string) {
	s.Observe(span(cln.SpanRequest, ms, 1, cln.TagID, root+"/cln-xpay:"+method+"#1"), xpay, requestOf(root), nil, at(ms))
}

// starts is the notification that a part begins, of whose askrene-reserve the span is lost.
func (s *scene) starts(ms int, p cln.Part) {
	s.Notify(cln.PartStart{Part: p, TotalMsat: 1000, AmountMsat: 1000, Hops: route, HopCount: 2}, at(ms))
}

func TestPartOfAnUnknownRequest(t *testing.T) {
	const ended, early, slow, other, late = "cli:xpay#1/cln:xpay#1", "cli:xpay#2/cln:xpay#2", "cli:xpay#3/cln:xpay#3", "cli:xpay#4/cln:xpay#4", "cli:xpay#5/cln:xpay#5"
	held := func(s *scene) (list []string) {
		for _, root := range []string{ended, early, slow, other, late} {
			if s.HasOpen(requestOf(root)) {
				list = append(list, root[4:10])
			}
		}
		return list
	}
	part := func(hash string) cln.Part { return cln.Part{Hash: hashOf(hash), Number: 1} }
	for _, tc := range []struct {
		what string
		then func(s *scene)
		want string
	}{
		{"nothing", func(*scene) {}, "[xpay#3 xpay#4]"},
		{"the other payment is over", func(s *scene) { s.ask(9000, other, cln.MethodFinish) }, "[xpay#3]"},
		{"it has ended", func(s *scene) { s.end(5, 9000, part("slow"), xpay, slow, "") }, "[]"},
		{"it has ended, and its span is lost", func(s *scene) {
			s.Notify(cln.PartEnd{Part: part("slow"), Success: true, Duration: 9e9}, at(9003))
		}, "[]"},
		{"the other one has a part of its own", func(s *scene) {
			s.begin(9000, part("other"), xpay, other)
			s.end(9001, 9500, part("other"), xpay, other, "")
		}, "[xpay#3]"},
		{"both have", func(s *scene) {
			for i, root := range []string{slow, other} {
				s.begin(9000+1000*i, part(root), xpay, root)
				s.end(9001+1000*i, 9500+1000*i, part(root), xpay, root, "")
			}
		}, "[xpay#3 xpay#4]"},
		{"xpay is started anew", func(s *scene) { s.begin(9000, part("new"), Sender{"cln-xpay", 102, 7}, late) }, "[xpay#5]"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			s := newScene(t, Local)
			s.ask(-5000, early, "getroutes")
			s.ask(-100, ended, "getroutes")
			s.ask(-50, ended, cln.MethodFinish)
			s.ask(0, slow, "getroutes")
			s.ask(0, other, "getroutes")
			s.starts(5, part("slow"))
			s.ask(100, late, "getroutes")
			s.advance(1000)
			tc.then(s)
			s.advance(12_000)
			if got := fmt.Sprint(held(s)); got != tc.want {
				t.Errorf("the part holds %s, want %s", got, tc.want)
			}
		})
	}
}
