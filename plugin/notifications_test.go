package plugin

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"clntrace/collector/cln"
)

const secret = "7ddd975c7a6655b7340a2eecb4f737de8ebcfe5c481f8d369872ca226dc40fa7"

// forwarded is a settled forward as lightningd v26.06.6 sent it.
func forwarded(htlc int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","method":"forward_event","params":{"forward_event":{"updated_index":9,"payment_hash":"3180dc21082a6d81b94c33f7a6ddceb0cb35991e84083243daa221a06d18de90",`+
		`"in_channel":"218x1x0","in_htlc_id":%d,"out_channel":"218x2x0","in_msat":1001,"out_msat":1000,"fee_msat":1,"status":"settled","style":"tlv",`+
		`"received_time":1795630189.9342704,"resolved_time":1795630190.2381797,"preimage":"%s"}}}`+"\n\n", htlc, secret)
}

func partBegan() string {
	return `{"jsonrpc":"2.0","method":"pay_part_start","origin":"cln-xpay","params":{"pay_part_start":{"payment_hash":"` + strings.Repeat("ab", 32) + `","groupid":1,"partid":1,"hops":[]}}}` + "\n\n"
}

// Notifications reach the collector in order, whatever stands between them, and
// nothing of them reaches glightning.
func TestNotificationsInOrder(t *testing.T) {
	n := startNode(t, false)
	const count = 2000
	go func() {
		for i := range count {
			n.send(forwarded(i))
			if i%100 == 0 {
				n.send(`{"jsonrpc":"2.0","method":"forward_event","params":{"forward_event":{"preimage":"` + secret + `"}}}` + "\n\n")
				n.send(`{"jsonrpc":"2.0","method":"sendpay_success","params":{"sendpay_success":{}}}` + "\n\n")
			}
		}
		n.send(partBegan())
	}()
	for i := range count + 1 {
		select {
		case e := <-n.spans.events:
			if f, ok := e.(cln.Forward); i < count && (!ok || f.InHTLC != uint64(i)) {
				t.Fatalf("event %d is %+v", i, e)
			}
		case <-time.After(patience):
			t.Fatalf("only %d came", i)
		}
	}
	if got := n.spans.malformed.Load(); got != count/100 {
		t.Errorf("%d were malformed, want %d", got, count/100)
	}
	if _, fail := n.ask("tracestats", "{}"); fail != "" {
		t.Error(fail)
	}
}

// noted notes what it is told.
type noted struct {
	events    []cln.Event
	malformed int
	first     []uint64
}

func (n *noted) FirstRequest(number uint64) { n.first = append(n.first, number) }

func (n *noted) Notify(e cln.Event, _ time.Time) { n.events = append(n.events, e) }
func (n *noted) NotifyMalformed()                { n.malformed++ }

func TestNotificationsAreTaken(t *testing.T) {
	long := `{"method":"invoice_payment","params":{"invoice_payment":{"preimage":"` + secret + `","label":"` + strings.Repeat("x", 2*maxNotification) + `"}}}`
	tooLong := `{"method":"invoice_payment","params":{"invoice_payment":{"preimage":"` + secret + `","label":"` + strings.Repeat("x", maxRequest) + `"}}}`
	for _, tt := range []struct {
		name, in          string
		events, malformed int
		passed            string
	}{
		{"ours", forwarded(1), 1, 0, ""},
		{"another topic", `{"method":"shutdown","params":{}}`, 0, 0, `{"method":"shutdown","params":{"params":{}}}` + "\n\n"},
		{"a request of that name", `{"id":1,"method":"block_added","params":{}}`, 0, 0, `{"method":"block_added","id":"1","params":{"params":{}}}` + "\n\n"},
		{"no parameters", `{"method":"block_added"}`, 0, 1, ""},
		{"broken", `{"method":"block_added","params":{"height":}}`, 0, 1, ""},
		{"long", long, 0, 1, ""},
		{"longer than any message", tooLong, 0, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var to noted
			var passed bytes.Buffer
			w := newWire(io.Discard, slog.New(slog.DiscardHandler))
			w.notices = &to
			f, err := newSplitter(strings.NewReader(tt.in)).next()
			if err != nil {
				t.Fatal(err)
			}
			if err := w.admit(f, &passed); err != nil {
				t.Fatal(err)
			}
			if len(w.next) > 0 { // requests wait there for their turn
				passed.Write((<-w.next).text)
			}
			if len(to.events) != tt.events || to.malformed != tt.malformed || passed.String() != tt.passed {
				t.Errorf("%d events, %d malformed, passed on %q", len(to.events), to.malformed, passed.String())
			}
			if bytes.Contains(f.body, []byte(secret[:8])) {
				t.Errorf("left in memory: %.200q", f.body)
			}
		})
	}
}

// Requests that lightningd numbered lower than its first one to us began before we did.
func TestFirstRequestIsNumbered(t *testing.T) {
	for ids, want := range map[string][]uint64{
		`"cln:getmanifest#20" "cln:init#44"`:                              {20},
		`"cli:plugin#7/cln:plugin#99/cln:getmanifest#100" "cln:init#101"`: {100},
		`7`: {7}, `"x"`: nil,
	} {
		var to noted
		w := newWire(io.Discard, slog.New(slog.DiscardHandler))
		w.notices = &to
		for _, id := range strings.Fields(ids) {
			if err := w.admit(frame{body: []byte(`{"method":"a","params":{},"id":` + id + `}`)}, io.Discard); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(to.first, want) {
			t.Errorf("%s: %v, want %v", ids, to.first, want)
		}
	}
}

// What has been read is not kept.
func TestReadingWipes(t *testing.T) {
	s := newSplitter(strings.NewReader(strings.Repeat(forwarded(1), 20)))
	for range 20 {
		if f, err := s.next(); err != nil || !bytes.Contains(f.body, []byte(secret)) {
			t.Fatalf("%q, %v", f.body, err)
		}
	}
	if bytes.Contains(s.r.buffer, []byte(secret[:8])) {
		t.Error("a preimage is left in the buffer")
	}
}

func BenchmarkNotification(b *testing.B) {
	in := strings.Repeat(forwarded(1), 1000)
	w := newWire(io.Discard, slog.New(slog.DiscardHandler))
	b.ReportAllocs()
	for b.Loop() {
		to := new(noted)
		w.notices = to
		s := newSplitter(strings.NewReader(in))
		for range 1000 {
			f, _ := s.next()
			_ = w.admit(f, io.Discard)
		}
		if len(to.events) != 1000 {
			b.Fatal(len(to.events))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/notification")
}
