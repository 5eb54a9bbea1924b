package payments

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/zipkin"
)

var (
	epoch = time.Unix(1795630189, 0)
	node  = Sender{"lightningd", 100, 5}
	xpay  = Sender{"cln-xpay", 101, 6}
)

// scene drives a Tracker with what lightningd would send.
type scene struct {
	*Tracker
	t   *testing.T
	out Output
}

func newScene(t *testing.T, m Mode) *scene {
	s := &scene{Tracker: New(), t: t}
	s.SetMode(m)
	return s
}

func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

func (s *scene) advance(ms int) {
	s.Advance(at(ms))
	s.take()
}

func (s *scene) take() {
	o := s.Take()
	s.out.Joined = append(s.out.Joined, o.Joined...)
	s.out.Spans = append(s.out.Spans, o.Spans...)
	s.out.Observations = append(s.out.Observations, o.Observations...)
}

// span is a span of ms that ends at a time.
func span(name string, end, ms int, tags ...string) *zipkin.Span {
	s := &zipkin.Span{Name: name, Timestamp: at(end - ms).UnixMicro(), Duration: int64(ms) * 1000}
	for i := 0; i < len(tags); i += 2 {
		s.Tags = append(s.Tags, zipkin.Tag{Key: tags[i], Value: tags[i+1]})
	}
	return s
}

func hashOf(text string) cln.Hash { return sha256.Sum256([]byte(text)) }

var route = []cln.Hop{{Node: cln.NodeID{2, 1}, Channel: 103<<40 | 1<<16, Direction: 1}, {Node: cln.NodeID{2, 2}, Channel: 103<<40 | 2<<16}}

// begin is what xpay sends when a part begins at a time: its route is reserved, and
// the notification comes.
func (s *scene) begin(ms int, p cln.Part, from Sender, root string) {
	s.Observe(span(cln.SpanRequest, ms, 1, cln.TagID, root+"/cln-xpay:askrene-reserve#1"), from, requestOf(root), nil, at(ms))
	s.Notify(cln.PartStart{Part: p, TotalMsat: 3000, AmountMsat: 1000, FeeMsat: 2, Hops: route, HopCount: 2}, at(ms+5))
}

func requestOf(root string) (id RequestID) {
	copy(id[:], root)
	return id
}

// end is what xpay sends when a part that began at a time ends at another.
func (s *scene) end(began, ms int, p cln.Part, from Sender, root string, reason string) {
	s.request(began, ms, from, root, reason != "")
	e := cln.PartEnd{Part: p, Success: reason == "", Duration: time.Duration(ms-began)*time.Millisecond + 100*time.Microsecond, Reason: reason}
	if reason != "" {
		e.FailedNode, e.FailedChannel = route[0].Node, route[1].Channel
	}
	s.Notify(e, at(ms+3))
}

func (s *scene) request(began, ms int, from Sender, root string, failed bool) {
	r := span(cln.SpanRequest, ms, ms-began, cln.TagID, root+"/cln-xpay:injectpaymentonion#2", cln.TagError, fmt.Sprint(failed))
	if s.Observe(r, from, requestOf(root), r, at(ms)) != (s.Mode() > Off) {
		s.t.Errorf("waits in mode %v", s.Mode())
	}
}

func shown(list []Attribute, m Mode) string {
	var b strings.Builder
	for _, a := range list {
		if Shown(m, a.Class) {
			fmt.Fprintf(&b, "%s=%s ", strings.TrimPrefix(string(a.Key), "cln."), a.Value.String())
		}
	}
	return b.String()
}

// One payment in two parts: the first fails at the first peer, the second succeeds.
func TestPaymentThatIsTriedAgain(t *testing.T) {
	const root = "cli:xpay#1/cln:xpay#2"
	s := newScene(t, All)
	first, second := cln.Part{Hash: hashOf("a"), Group: 1 << 63, Number: 1}, cln.Part{Hash: hashOf("a"), Group: 1 << 63, Number: 2}
	s.begin(0, first, xpay, root)
	s.advance(800)
	if !s.HasOpen(requestOf(root)) || s.State(at(900)).Open != 1 {
		t.Errorf("the part is not known to be open: %+v", s.State(at(900)))
	}
	s.end(1, 1000, first, xpay, root, "temporary_channel_failure")
	s.begin(1100, second, xpay, root)
	s.end(1101, 1500, second, xpay, root, "")
	s.advance(2300)
	if r, ok := s.Request(requestOf(root)); !ok || r.Open || r.Failed || !r.Succeeded || len(r.Payments) != 1 {
		t.Errorf("request: %+v", r)
	} else if got := shown(r.Attributes, Outcomes); got != "payment.parts=2 payment.failed_parts=1 " {
		t.Errorf("root: %s", got)
	}
	s.advance(2600)
	if len(s.out.Joined) != 2 || s.out.Joined[0].Part == nil || s.out.Joined[1].Part == nil {
		t.Fatalf("joined: %+v", s.out.Joined)
	}
	for i, want := range []string{
		"payment.part=1 payment.hops=2 error.type=temporary_channel_failure payment.failed_hop=1 ",
		"payment.part=2 payment.hops=2 ",
	} {
		if got := shown(s.out.Joined[i].Part.Facts().Attributes, Outcomes); got != want {
			t.Errorf("part %d: %s, want %s", i+1, got, want)
		}
	}
	all := shown(s.out.Joined[0].Part.Facts().Attributes, All)
	for _, want := range []string{"payment.group=9223372036854775808", `payment.route=["103x1x0/1","103x2x0/0"]`, "payment.failed_channel=103x2x0/0", "payment.fee_msat=2", "payment.hash=" + first.Hash.String()} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not in %s", want, all)
		}
	}
	if len(s.out.Spans) != 1 {
		t.Fatalf("spans: %+v", s.out.Spans)
	}
	p := s.out.Spans[0]
	if p.Kind != KindPayment || p.ErrorType != "" || p.Request != requestOf(root) || !p.Start.Equal(at(1)) || !p.End.Equal(at(1500)) {
		t.Errorf("payment: %+v", p)
	}
	want := sha256.Sum256(append([]byte("clntrace payment\x00"), first.Hash[:]...))
	if p.TraceID != trace.TraceID(want[:16]) {
		t.Errorf("trace id %v", p.TraceID)
	}
	var rows []string
	for _, o := range s.out.Observations {
		rows = append(rows, fmt.Sprint(o.Kind, " ", o.Channel, " ", o.Outcome, " ", o.Failed))
	}
	if got := fmt.Sprint(rows); got != "[payment part 103x1x0 temporary_channel_failure true payment part 103x1x0 success false payment 0x0x0 success false]" {
		t.Errorf("rows: %s", got)
	}
	if got := s.State(at(3000)); got != (State{Parts: 2, Failed: 1}) {
		t.Errorf("state: %+v", got)
	}
}

// A payment of which no part succeeds has failed, but not while one is open.
func TestPaymentThatFails(t *testing.T) {
	const root = "cli:xpay#1/cln:xpay#2"
	s := newScene(t, Outcomes)
	first, second := cln.Part{Hash: hashOf("a"), Number: 1}, cln.Part{Hash: hashOf("a"), Number: 2}
	s.begin(0, first, xpay, root)
	s.begin(10, second, xpay, root)
	s.end(1, 300, first, xpay, root, "Something about 103x1x0, of all channels")
	s.advance(20_000)
	if r, _ := s.Request(requestOf(root)); !r.Open || r.Failed || len(s.out.Spans) > 0 {
		t.Errorf("with an open part: %+v, %v", r, s.out.Spans)
	}
	if list := s.Open(10); len(list) != 1 || list[0].Part != 2 || len(list[0].Channels) != 2 || !list[0].Since.Equal(at(10)) {
		t.Errorf("open: %+v", list)
	}
	if got := s.State(at(20_000)).OldestOpenSeconds; got != 19 {
		t.Errorf("open for %d s", got)
	}
	s.end(11, 60_000, second, xpay, root, "mpp_timeout")
	s.advance(61_000)
	s.advance(66_000)
	if r, _ := s.Request(requestOf(root)); r.Open || !r.Failed {
		t.Errorf("at the end: %+v", r)
	}
	if len(s.out.Spans) != 1 || s.out.Spans[0].ErrorType != "mpp_timeout" || s.out.Spans[0].End != at(60_000) {
		t.Fatalf("payment: %+v", s.out.Spans)
	}
	if p := s.out.Joined[0].Part.Facts(); p.Description(Outcomes) != "failed" || p.Description(All) != p.Reason {
		t.Errorf("a sentence as a reason: %q, %q", p.Description(Outcomes), p.Description(All))
	}
	salted := sha256.Sum256(append([]byte("clntrace payment\x00"), first.Hash[:]...))
	if s.out.Spans[0].TraceID == trace.TraceID(salted[:16]) {
		t.Error("outcomes: the trace id can be computed from the hash")
	}
}

// A pair that is left is joined only if its times are the usual ones, or explained.
func TestPartsThatAreDoubted(t *testing.T) {
	const root = "cli:xpay#1/cln:xpay#2"
	for _, tt := range []struct {
		name                 string
		began, excess, after int // ms: of the span; of xpay's duration; of the notification
		joined               bool
	}{
		{"as usual", 1, 0, 3, true},
		{"xpay lost the processor after the answer", 1, 19, 3, true},
		{"before the request, too", 9, 27, 3, true},
		{"xpay has measured something else", 1, 30, 3, false},
		{"late", 1, 0, 240, true},
		{"too late", 1, 0, 260, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, All)
			p := cln.Part{Hash: hashOf("a"), Number: 1}
			s.begin(0, p, xpay, root)
			s.request(tt.began, 2000, xpay, root, false)
			took := time.Duration(2000-tt.began+tt.excess)*time.Millisecond + 100*time.Microsecond
			s.Notify(cln.PartEnd{Part: p, Success: true, Duration: took}, at(2000+tt.after))
			s.advance(3500)
			if len(s.out.Joined) != 1 || (s.out.Joined[0].Part != nil) != tt.joined {
				t.Errorf("joined: %+v", s.out.Joined)
			}
		})
	}
}

// xpay sends no pay_part_end for a request that fails otherwise.
func TestPartWithoutEnd(t *testing.T) {
	const root = "cli:xpay#1/cln:xpay#2"
	s := newScene(t, All)
	p := cln.Part{Hash: hashOf("a"), Number: 1}
	s.begin(0, p, xpay, root)
	s.request(1, 200, xpay, root, true)
	s.advance(1000)
	if got := s.State(at(1000)); got.Open != 0 || got.Failed != 1 || len(s.out.Joined) != 1 || s.out.Joined[0].Part != nil {
		t.Errorf("%+v, %+v", got, s.out.Joined)
	}
	s.Notify(cln.PartEnd{Part: p, Duration: time.Second}, at(1200)) // after all
	if got := s.State(at(1300)); got.Parts != 1 || got.Failed != 1 {
		t.Errorf("counted twice: %+v", got)
	}
}

// A cln-xpay that is started anew knows nothing of the parts before.
func TestPartsOfAnXpayThatHasGone(t *testing.T) {
	const root = "cli:xpay#1/cln:xpay#2"
	s := newScene(t, All)
	s.begin(0, cln.Part{Hash: hashOf("a"), Number: 1}, xpay, root)
	s.begin(5000, cln.Part{Hash: hashOf("b"), Number: 1}, Sender{"cln-xpay", 102, 7}, "cli:xpay#3/cln:xpay#4")
	s.advance(11_000)
	if got := s.State(at(11_000)); got.Open != 1 || got.Failed != 0 {
		t.Errorf("%+v", got)
	}
	if s.HasOpen(requestOf(root)) {
		t.Error("the root is held for ever")
	}
	if len(s.out.Spans) != 1 || !s.out.Spans[0].Incomplete {
		t.Errorf("%+v", s.out.Spans)
	}
}

// update is what lightningd sends for an event of a forward.
func (s *scene) update(us int64, created bool) {
	u := &zipkin.Span{Name: "db_exec_prepared", Timestamp: us, Duration: 30, Tags: []zipkin.Tag{{Key: cln.TagQuery, Value: "UPDATE forwards SET  updated_index=?, in_msatoshi=?"}}}
	s.Observe(u, node, RequestID{}, nil, time.UnixMicro(us+30))
	if created {
		i := &zipkin.Span{Name: "db_exec_prepared", Timestamp: us + 60, Duration: 30, Tags: []zipkin.Tag{{Key: cln.TagQuery, Value: "INSERT INTO forwards (  rowid"}}}
		s.Observe(i, node, RequestID{}, nil, time.UnixMicro(us+90))
	}
}

func forwardEventAt(status cln.ForwardStatus, received, resolved int, created, updated uint64) cln.Forward {
	f := cln.Forward{
		Hash: hashOf("f"), In: route[0].Channel, Out: route[1].Channel, InHTLC: 7, InMsat: 1001, OutMsat: 1000, FeeMsat: 1,
		Status: status, Received: at(received).UnixNano(), Created: created, Updated: updated,
	}
	if resolved > 0 {
		f.Resolved = at(resolved).UnixNano()
	}
	return f
}

func (s *scene) phases() string {
	var list []string
	for _, p := range s.out.Spans {
		text := fmt.Sprintf("%s %d-%d", p.Kind, p.Start.Sub(epoch).Milliseconds(), p.End.Sub(epoch).Milliseconds())
		for word, is := range map[string]bool{" " + p.ErrorType: p.ErrorType != "", " approximate": p.Approximate, " incomplete": p.Incomplete} {
			if is {
				text += word
			}
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

func TestForwards(t *testing.T) {
	for name, tt := range map[string]struct {
		run   func(*scene)
		want  string
		state State
	}{
		"settled": {func(s *scene) {
			s.update(at(140).UnixMicro(), true)
			s.Notify(forwardEventAt(cln.ForwardOffered, 10, 0, 1, 0), at(150))
			s.update(at(330).UnixMicro()+20, false)
			s.Notify(forwardEventAt(cln.ForwardSettled, 10, 330, 0, 1), at(340))
		}, "forward accept 10-140, forward downstream 140-330, forward 10-330", State{Forwards: 1}},
		"failed further on": {func(s *scene) {
			s.update(at(140).UnixMicro(), true)
			s.Notify(forwardEventAt(cln.ForwardOffered, 10, 0, 1, 0), at(150))
			s.Notify(forwardEventAt(cln.ForwardFailed, 10, 330, 0, 1), at(340))
		}, "forward accept 10-140, forward downstream 140-330 failed, forward 10-330 failed", State{Forwards: 1, ForwardsFailed: 1}},
		"the span of the offer is missing": {func(s *scene) {
			s.Notify(forwardEventAt(cln.ForwardOffered, 10, 0, 1, 0), at(150))
			s.Notify(forwardEventAt(cln.ForwardSettled, 10, 330, 0, 1), at(340))
		}, "forward accept 10-150 approximate, forward downstream 150-330 approximate, forward 10-330", State{Forwards: 1, Unjoined: 1}},
		"failed here": {func(s *scene) {
			f := forwardEventAt(cln.ForwardLocalFailed, 10, 0, 1, 0)
			f.Out, f.Reason = 0, "WIRE_TEMPORARY_CHANNEL_FAILURE"
			s.update(at(75).UnixMicro(), true)
			s.Notify(f, at(80))
		}, "forward accept 10-75 temporary_channel_failure, forward 10-75 temporary_channel_failure", State{Forwards: 1, ForwardsFailed: 1}},
		"it began before we did": {func(s *scene) {
			s.Notify(forwardEventAt(cln.ForwardSettled, 10, 330, 0, 9), at(340))
		}, "forward 10-330", State{Forwards: 1}},
		"times that cannot be": {func(s *scene) {
			f := forwardEventAt(cln.ForwardOffered, 0, 0, 1, 0)
			f.Received = 5
			s.update(at(140).UnixMicro(), true)
			s.Notify(f, at(150))
			f = forwardEventAt(cln.ForwardSettled, 0, 1e9, 0, 1)
			f.Received = 5
			s.Notify(f, at(340))
		}, "forward accept 150-150, forward downstream 150-340 approximate, forward 150-340 approximate", State{Forwards: 1}},
		"clntrace ends": {func(s *scene) {
			s.update(at(140).UnixMicro(), true)
			s.Notify(forwardEventAt(cln.ForwardOffered, 10, 0, 1, 0), at(150))
			s.advance(1000)
			s.Flush(at(2000))
		}, "forward accept 10-140, forward downstream 140-2000 incomplete, forward 10-2000 incomplete", State{Forwards: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, All)
			tt.run(s)
			s.advance(1200)
			s.take()
			if got := s.phases(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if got := s.State(at(1300)); got != tt.state {
				t.Errorf("state %+v, want %+v", got, tt.state)
			}
		})
	}
}

// What lightningd does not say is no attribute, above all no amount of 0.
func TestAmountsThatAreNotSaid(t *testing.T) {
	f := forward{last: forwardEventAt(cln.ForwardLocalFailed, 10, 0, 1, 0)}
	if got := shown(f.attributes(), All); !strings.Contains(got, "out_msat=1000 forward.fee_msat=1 ") {
		t.Error(got)
	}
	f.last.OutMsat, f.last.FeeMsat = 0, 0
	if got := shown(f.attributes(), All); strings.Contains(got, "out_msat") || strings.Contains(got, "fee") || !strings.Contains(got, "out_channel=103x2x0") {
		t.Error(got)
	}
	s := newScene(t, All)
	s.Notify(cln.PartEnd{Part: cln.Part{Hash: hashOf("a"), Number: 1}, Success: true}, at(0)) // it began before we did
	s.Notify(cln.InvoicePaid{Hash: hashOf("i")}, at(0))
	s.advance(3000)
	if len(s.out.Spans) != 2 {
		t.Fatalf("%+v", s.out.Spans)
	}
	for _, p := range s.out.Spans {
		if got := shown(p.Attributes, All); strings.Contains(got, "msat") {
			t.Errorf("%v: %s", p.Kind, got)
		}
	}
}

// What may be exported in each mode, and what a span has to have.
func TestModes(t *testing.T) {
	for _, m := range []Mode{Off, Local, Outcomes, All} {
		s := newScene(t, m)
		s.begin(0, cln.Part{Hash: hashOf("a"), Number: 1}, xpay, "cli:xpay#1/cln:xpay#2")
		s.end(1, 300, cln.Part{Hash: hashOf("a"), Number: 1}, xpay, "cli:xpay#1/cln:xpay#2", "unknown_next_peer")
		s.update(at(140).UnixMicro(), true)
		s.Notify(forwardEventAt(cln.ForwardOffered, 10, 0, 1, 0), at(150))
		s.Notify(forwardEventAt(cln.ForwardFailed, 10, 330, 0, 1), at(340))
		s.Notify(cln.InvoicePaid{Hash: hashOf("i"), AmountMsat: 77}, at(400))
		s.advance(9000)
		if (len(s.out.Spans) == 5) != (m > Off) || (len(s.out.Joined) == 1) != (m > Off) || (len(s.out.Observations) == 5) != (m > Off) {
			t.Errorf("%v: %d spans, %d observations, %+v", m, len(s.out.Spans), len(s.out.Observations), s.out.Joined)
		}
		ids := map[trace.SpanID]bool{}
		for _, p := range s.out.Spans {
			ids[p.ID] = true
			for _, a := range p.Attributes {
				private := a.Class != Outcome
				if Shown(m, a.Class) != (m == All || m == Outcomes && !private) {
					t.Errorf("%v: %v", m, a)
				}
				if !private && a.Value.Type() == attribute.STRING && !slices.Contains([]attribute.Key{"error.type", "cln.forward.status"}, a.Key) {
					t.Errorf("%v has no class", a)
				}
			}
		}
		if len(ids) != len(s.out.Spans) {
			t.Errorf("%v: %d ids of %d spans", m, len(ids), len(s.out.Spans))
		}
	}
}

// Whatever comes, what is kept is bounded, and what has made room is counted.
func TestFlood(t *testing.T) {
	s := newScene(t, All)
	const n = 15_000
	for i := range n {
		h := hashOf(fmt.Sprint(i))
		s.Notify(cln.PartStart{Part: cln.Part{Hash: h, Number: 1 << 60}, Hops: route}, at(i/10))
		s.Notify(cln.Forward{Hash: h, In: 1, InHTLC: uint64(i), Status: cln.ForwardOffered, Created: uint64(i) * 1000}, at(i/10))
		s.Notify(cln.PartEnd{Part: cln.Part{Hash: h, Number: 7}, Reason: "x"}, at(i/10))
		s.Notify(cln.Forward{Hash: h, In: 2, InHTLC: uint64(i), Status: cln.ForwardFailed}, at(i/10))
		s.Notify(cln.BlockAdded{Height: uint32(i) * 77}, at(i/10))
		if i%100 == 0 {
			s.Advance(at(i / 10))
			s.Take()
		}
	}
	st := s.State(at(n))
	if st.Open > maxParts || st.ForwardsOpen != maxForwards || s.payments.Len() > maxPayments || len(s.ended) > maxEnded {
		t.Errorf("%+v, %d payments, %d ended", st, s.payments.Len(), len(s.ended))
	}
	if st.Dropped < n-maxParts+n-maxForwards {
		t.Errorf("dropped %d", st.Dropped)
	}
	s.Flush(at(n))
	if s.Take(); s.State(at(n)).Open+s.State(at(n)).ForwardsOpen > 0 {
		t.Errorf("%+v", s.State(at(n)))
	}
}

func BenchmarkTracker(b *testing.B) {
	list := load(b, "testdata/sender.jsonl.gz")
	list = append(list, load(b, "testdata/router.jsonl.gz")...)
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		tracker := New()
		tracker.SetMode(All)
		for _, e := range list {
			if e.span != nil {
				tracker.Observe(e.span, e.from, RequestID{}, e.span, e.at)
			} else {
				tracker.Notify(e.note, e.at)
			}
			tracker.Advance(e.at)
			events++
		}
		tracker.Take()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}
