package tests

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
)

// What a payment must not be recognized by.
var (
	preimage = strings.Repeat("5ec3e7", 10) + "beef"
	paidHash = sha256.Sum256(unhex(preimage))
	hash     = hex.EncodeToString(paidHash[:])
	peer     = "02" + strings.Repeat("a1b2c3d4", 8)
	receiver = "03" + strings.Repeat("e5f60718", 8)
)

const (
	channelOut = "812345x678x9"
	channelIn  = "912345x987x6"
	amountMsat = 7654321098
	group      = 1<<62 + 12345
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// actor sends what lightningd and cln-xpay send.
type actor struct {
	t          *testing.T
	n          *lightningdtest.Node
	xpay, node *lightningdtest.Sender
	ids        int
}

func newActor(t *testing.T, n *lightningdtest.Node) *actor {
	t.Helper()
	senders := n.Senders(sender)
	return &actor{t: t, n: n, xpay: senders.Start("cln-xpay"), node: senders.Start("lightningd")}
}

// act sends what there is to send for a payment that fails at its first peer and then
// succeeds, for a forward, a paid invoice and a block.
func act(t *testing.T, n *lightningdtest.Node) {
	t.Helper()
	a := newActor(t, n)
	a.pay("cli:xpay#7/cln:xpay#8", hash, false, true)
	a.forward()
	a.receive()
	n.Notify("invoice_payment", object{"msat": amountMsat, "label": "malformed: no preimage"})
	a.block()
}

// id is another one with each call.
func (a *actor) id() string {
	a.ids++
	return fmt.Sprintf("%016x", a.ids)
}

func (a *actor) send(from *lightningdtest.Sender, name string, start time.Time, took time.Duration, id, parent string, tags object) {
	a.t.Helper()
	span := object{
		"id": id, "name": name, "timestamp": start.UnixMicro(), "duration": took.Microseconds(),
		"localEndpoint": object{"serviceName": "lightningd"}, "tags": tags, "traceId": id + id,
	}
	if parent != "" {
		span["parentId"] = parent
	}
	text, _ := json.Marshal([]object{span})
	send(a.t, from, text)
}

// pay is a payment by the request of that path, one part after the other.
func (a *actor) pay(path, hash string, succeeds ...bool) {
	a.t.Helper()
	for i, success := range succeeds {
		a.part(path, hash, i+1)(success)
	}
}

// part begins a part of a payment, 30 ms ago, and returns what ends it.
func (a *actor) part(path, hash string, number int) (end func(success bool)) {
	a.t.Helper()
	began := now().Add(-30 * time.Millisecond)
	call := func(method string, id int, failed bool) object {
		return object{"id": fmt.Sprintf("%s/cln-xpay:%s#%d", path, method, 10*number+id), "error": fmt.Sprint(failed)}
	}
	a.send(a.xpay, "jsonrpc", began.Add(-time.Millisecond), time.Millisecond, a.id(), "", call("askrene-reserve", 1, false))
	a.n.Notify("pay_part_start", object{
		"payment_hash": hash, "groupid": group, "partid": number, "total_payment_msat": amountMsat, "attempt_msat": amountMsat,
		"hops": []object{
			{"next_node": peer, "short_channel_id": channelOut, "direction": 1, "channel_in_msat": amountMsat + 1, "channel_out_msat": amountMsat + 1},
			{"next_node": receiver, "short_channel_id": channelIn, "direction": 0, "channel_in_msat": amountMsat + 1, "channel_out_msat": amountMsat},
		},
	})
	return func(success bool) {
		a.t.Helper()
		took := time.Since(began).Truncate(time.Microsecond)
		a.send(a.xpay, "jsonrpc", began.Add(100*time.Microsecond), took, a.id(), "", call("injectpaymentonion", 2, !success))
		end := object{"payment_hash": hash, "groupid": group, "partid": number, "duration": took.Seconds() + 0.0001, "status": "success"}
		if !success {
			end["status"], end["error_message"], end["error_code"] = "failure", "temporary_channel_failure", 4103
			end["failed_node_id"], end["failed_short_channel_id"], end["failed_direction"] = peer, channelIn, 0
		}
		a.n.Notify("pay_part_end", end)
	}
}

// forward is a forward that is settled now, 20 ms after it was offered, which was 20 ms
// after it was received.
func (a *actor) forward() {
	a.t.Helper()
	resolved := now()
	offered := resolved.Add(-20 * time.Millisecond)
	received := offered.Add(-20 * time.Millisecond)
	forward := object{
		"payment_hash": hash, "in_channel": channelIn, "in_htlc_id": 3, "out_channel": channelOut, "in_msat": amountMsat, "out_msat": amountMsat - 3,
		"fee_msat": 3, "status": "offered", "created_index": 1, "received_time": float64(received.UnixMicro()) / 1e6,
	}
	const update = "UPDATE forwards SET  updated_index=?, in_msatoshi=?"
	a.send(a.node, "db_exec_prepared", offered, 50*time.Microsecond, a.id(), "", object{"query": update})
	a.send(a.node, "db_exec_prepared", offered.Add(100*time.Microsecond), 50*time.Microsecond, a.id(), "", object{"query": "INSERT INTO forwards (  rowid"})
	a.n.Notify("forward_event", forward)
	a.send(a.node, "db_exec_prepared", resolved.Add(10*time.Microsecond), 50*time.Microsecond, a.id(), "", object{"query": update})
	delete(forward, "created_index")
	forward["updated_index"], forward["status"], forward["preimage"], forward["resolved_time"] = 1, "settled", preimage, float64(resolved.UnixMicro())/1e6
	a.n.Notify("forward_event", forward)
}

// receive is an invoice that is paid.
func (a *actor) receive() {
	a.t.Helper()
	a.n.Notify("invoice_payment", object{"msat": amountMsat, "preimage": preimage, "label": "label-of-" + preimage})
}

// block is a block that lightningd adds.
func (a *actor) block() {
	a.t.Helper()
	tip, id := now().Add(-6*time.Millisecond), a.id()
	a.send(a.node, "wallet_block_add", tip, time.Millisecond, a.id(), id, object{})
	a.n.Notify("block_added", object{"hash": hash, "height": 812345})
	a.send(a.node, "extend_tip", tip, 5*time.Millisecond, id, "", object{})
}

// needles are the forms in which private things could be written down.
func needles() map[string][][]byte {
	amount := func(n uint64) [][]byte {
		return [][]byte{fmt.Append(nil, n), binary.AppendUvarint(nil, n), fmt.Appendf(nil, "%e", float64(n))}
	}
	scid := func(block, tx, out uint64) [][]byte {
		id := block<<40 | tx<<16 | out
		return [][]byte{fmt.Appendf(nil, "%dx%dx%d", block, tx, out), binary.BigEndian.AppendUint64(nil, id), binary.LittleEndian.AppendUint64(nil, id), binary.AppendUvarint(nil, id)}
	}
	return map[string][][]byte{
		"preimage": {[]byte(preimage), unhex(preimage), []byte(preimage[:16])},
		"hash":     {[]byte(hash), paidHash[:], []byte(hash[:16]), paidHash[:16], fmt.Append(nil, group)},
		"channel":  append(scid(812345, 678, 9), scid(912345, 987, 6)...),
		"node":     {[]byte(peer), unhex(peer), []byte(receiver), unhex(receiver), []byte(peer[:20]), []byte(receiver[:20])},
		"amount":   append(amount(amountMsat), append(amount(amountMsat-3), amount(amountMsat+1)...)...),
	}
}

// found returns what private things there are in b.
func found(b []byte) map[string]bool {
	kinds := map[string]bool{}
	for kind, forms := range needles() {
		for _, form := range forms {
			if bytes.Contains(b, form) {
				kinds[kind] = true
			}
		}
	}
	return kinds
}

// backend keeps the bodies of requests as they came.
type backend struct {
	mu     sync.Mutex
	traces bytes.Buffer
	other  bytes.Buffer
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	to := &b.other
	if strings.HasSuffix(r.URL.Path, "/v1/traces") {
		to = &b.traces
	}
	fmt.Fprintf(to, "%v", r.Header)
	to.Write(body)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// TestPrivacyOfPayments searches every byte that leaves or is stored.
func TestPrivacyOfPayments(t *testing.T) {
	for _, tt := range []struct {
		mode, redact string
		exported     string // kinds that spans may hold
		shown        string // kinds that tracestats may show
		listed       string // kinds that listtraces may show; the root of a request, and with it nodes, comes later
		forwards     bool
	}{
		{"off", "", "", "", "", false},
		{"local", "", "", "channel", "hash channel amount", false},
		{"outcomes", "", "", "channel", "hash channel amount", true},
		{"all", "", "hash channel node amount", "channel", "hash channel amount", true},
		{"all", "payment_hash,amount,channel,node", "", "", "", true},
	} {
		for _, spooled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%s/spooled=%v", tt.mode, tt.redact, spooled), func(t *testing.T) {
				t.Parallel()
				var sink backend
				server := httptest.NewServer(&sink)
				defer server.Close()
				endpoint := server.URL
				if spooled {
					endpoint = "http://127.0.0.1:9"
				}
				address := strings.TrimPrefix(otlptest.Reserve(t).GRPCEndpoint(), "http://")
				n := launch(t, lightningdtest.Config{Plugin: clntrace, Options: map[string]string{
					"clntrace-otlp-endpoint": endpoint, "clntrace-otlp-protocol": "http/protobuf", "clntrace-batch-delay": "50ms",
					"clntrace-payments": tt.mode, "clntrace-redact-tags": tt.redact, "clntrace-metrics": "true",
					"clntrace-prometheus-listen": address,
				}})
				act(t, n)
				var shown []byte
				if tt.mode != "off" {
					waitStats(t, n, "the payment and the forward to end", func(r report) bool {
						return r.Payments != nil && operation(r, "payment") && operation(r, "forward")
					})
				} else {
					waitStats(t, n, "the root", func(r report) bool { return r.Spans.Synthesized == 1 })
				}
				for _, format := range []string{"json", "table"} {
					text, err := n.Call("tracestats", object{"format": format, "limit": 1000})
					if err != nil {
						t.Fatal(err)
					}
					shown = append(shown, text...)
				}
				expect(t, "listtraces", traces(t, n), tt.listed)
				scraped := scrapes(t, address)
				endCleanly(t, n)
				stored := files(t, filepath.Join(n.Dir, "clntrace-spool"))
				if spooled == (len(stored) == 0) {
					t.Errorf("%d bytes are spooled", len(stored))
				}
				expect(t, "spans", append(stored, sink.traces.Bytes()...), tt.exported)
				expect(t, "metrics", sink.other.Bytes(), "")
				expect(t, "scrapes", scraped, "")
				for where, b := range map[string][]byte{"metrics": sink.other.Bytes(), "scrapes": scraped} {
					if got := bytes.Contains(b, []byte("downstream")); got != tt.forwards && (!spooled || where != "metrics") {
						t.Errorf("%s: forwards: %v", where, got)
					}
				}
				expect(t, "tracestats", shown, tt.shown)
				expect(t, "log", fmt.Appendf(nil, "%v %s", n.Logs(), n.Stderr()), "")
				if got := bytes.Contains(append(stored, sink.traces.Bytes()...), []byte("forward downstream")); got != tt.forwards {
					t.Errorf("forwards are exported: %v", got)
				}
			})
		}
	}
}

// traces is all that listtraces tells, as JSON and as tables.
func traces(t *testing.T, n *lightningdtest.Node) (all []byte) {
	t.Helper()
	text, err := n.Call("listtraces", object{"limit": 1000})
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Traces []struct {
			TraceID string `json:"trace_id"`
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	for _, trace := range list.Traces {
		for _, format := range []string{"json", "table"} {
			text, err := n.Call("listtraces", object{"id": trace.TraceID, "format": format})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, text...)
		}
	}
	return all
}

func operation(r report, span string) bool {
	for _, o := range r.Operations {
		if o.Span == span {
			return true
		}
	}
	return false
}

// files returns the contents of all files below a directory.
func files(t *testing.T, dir string) (all []byte) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			all = append(all, b...)
		}
		return nil
	})
	return all
}

// expect compares what private things there are with those that may be.
func expect(t *testing.T, where string, b []byte, allowed string) {
	t.Helper()
	kinds := found(b)
	for _, kind := range []string{"preimage", "hash", "channel", "node", "amount"} {
		may := strings.Contains(allowed, kind)
		switch {
		case kinds[kind] && !may:
			t.Errorf("%s: a %s", where, kind)
		case !kinds[kind] && may:
			t.Errorf("%s: no %s, so this test finds nothing", where, kind)
		}
	}
}

// What may be exported of a payment is what may be when it leaves, whatever might have
// been when it began.
func TestPaymentsChangesInAnOpenPayment(t *testing.T) {
	for _, tt := range []struct{ from, to, exported string }{
		{"all", "off", ""}, {"off", "outcomes", ""}, {"all", "local", ""}, {"local", "all", "hash channel node amount"},
	} {
		t.Run(tt.from+" to "+tt.to, func(t *testing.T) {
			t.Parallel()
			n, r := launchWith(t, map[string]string{"clntrace-payments": tt.from, "clntrace-group-requests": "true"})
			end := newActor(t, n).part("cli:xpay#7/cln:xpay#8", hash, 1)
			if err := n.SetConfig("clntrace-payments", tt.to); err != nil {
				t.Fatal(err)
			}
			end(false)
			has := func(name string) func([]otlptest.Span) bool {
				return func(all []otlptest.Span) bool {
					return slices.ContainsFunc(all, func(s otlptest.Span) bool { return s.Name == name })
				}
			}
			r.Wait(t, "the root", has("xpay"))
			endCleanly(t, n)
			expect(t, "spans", fmt.Append(nil, r.Spans()), tt.exported)
			if want := tt.to == "outcomes" || tt.to == "all"; has("payment")(r.Spans()) != want {
				t.Errorf("the payment is exported: %v", !want)
			}
		})
	}
}

// TestPaymentInItsTraces follows a payment from its notifications to the spans that
// arrive.
func TestPaymentInItsTraces(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	n := launch(t, config(r, map[string]string{"clntrace-payments": "all", "clntrace-group-requests": "true"}))
	act(t, n)
	spans := map[string]otlptest.Span{}
	r.Wait(t, "the payment, the forward and the root", func(all []otlptest.Span) bool {
		for _, s := range all {
			switch s.Attributes["cln.payment.part"] {
			case int64(1):
				spans["part 1"] = s
			case int64(2):
				spans["part 2"] = s
			default:
				spans[s.Name] = s
			}
		}
		return len(spans["payment"].ID)*len(spans["forward"].ID)*len(spans["xpay"].ID)*len(spans["part 2"].ID) > 0
	})
	first, second, root, payment := spans["part 1"], spans["part 2"], spans["xpay"], spans["payment"]
	if first.Status != "Error" || first.StatusMessage != "temporary_channel_failure" || first.Attributes["cln.payment.failed_hop"] != int64(1) {
		t.Errorf("first part: %+v", first)
	}
	if second.Status == "Error" || second.Attributes["cln.payment.hops"] != int64(2) || second.TraceID != root.TraceID {
		t.Errorf("second part: %+v", second)
	}
	if root.Status == "Error" || root.Attributes["cln.payment.parts"] != int64(2) || root.Attributes["cln.payment.failed_parts"] != int64(1) {
		t.Errorf("root: %+v", root)
	}
	wanted := sha256.Sum256(append([]byte("clntrace payment\x00"), paidHash[:]...))
	want := hex.EncodeToString(wanted[:16])
	for _, name := range []string{"payment", "forward", "forward accept", "forward downstream", "invoice paid"} {
		if s := spans[name]; s.TraceID != want || s.Kind != "Internal" || s.Attributes["cln.approximate"] != nil {
			t.Errorf("%s: %+v, want trace %s", name, s, want)
		}
	}
	if len(payment.Links) != 1 || payment.Links[0].SpanID != root.ID || payment.Links[0].Attributes["cln.link"] != "request" {
		t.Errorf("payment links to %+v, want %s", payment.Links, root.ID)
	}
	if len(root.Links) != 1 || root.Links[0].SpanID != payment.ID || root.Links[0].TraceID != want {
		t.Errorf("root links to %+v, want %s", root.Links, payment.ID)
	}
	accept, downstream := spans["forward accept"], spans["forward downstream"]
	if accept.ParentID != spans["forward"].ID || !accept.Start.Add(accept.Duration).Equal(downstream.Start) || accept.Duration < 15*time.Millisecond {
		t.Errorf("phases: %+v, %+v", accept, downstream)
	}
	if got := spans["extend_tip"].Attributes["cln.block.height"]; got != int64(812345) {
		t.Errorf("block height %v", got)
	}
	endCleanly(t, n)
}

// Rows of payments and forwards keep channel and outcome in 80 columns, and what is
// shown of them is understood by match.
func TestRowsOfPaymentsAreWhole(t *testing.T) {
	t.Parallel()
	n := launch(t, lightningdtest.Config{Plugin: clntrace, Options: map[string]string{"clntrace-otlp-endpoint": "off"}})
	act(t, n)
	waitStats(t, n, "the payment and the forward to end", func(r report) bool {
		return r.Payments != nil && operation(r, "payment") && operation(r, "forward")
	})
	table := func(params object) string {
		t.Helper()
		params["format"] = "table"
		raw, err := n.Call("tracestats", params)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Table string }
		if err := json.Unmarshal(raw, &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Table
	}
	whole := table(object{})
	for _, line := range strings.Split(whole, "\n") {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	var rows int
	for _, o := range waitStats(t, n, "an answer", func(report) bool { return true }).Operations {
		if !strings.HasPrefix(o.Span, "forward") && !strings.HasPrefix(o.Span, "payment") {
			continue
		}
		rows++
		what := o.Span + " " + o.Detail
		if !slices.Contains(whats(whole), what) {
			t.Errorf("%q is not whole in\n%s", what, whole)
		}
		if found := table(object{"match": what}); !slices.Equal(whats(found), []string{what}) {
			t.Errorf("match=%q finds\n%s", what, found)
		}
	}
	if rows < 4 {
		t.Errorf("there are %d rows of payments and forwards", rows)
	}
}

// whats are the texts under WHAT, of which some go on in the line below.
func whats(table string) (list []string) {
	_, rows, _ := strings.Cut(table, "\nPROCESS ")
	for i, row := range strings.Split(rows, "\n") {
		fields := strings.Fields(row)
		const numbers = 7
		switch {
		case i == 0 || len(fields) == 0: // the header, or the end
		case strings.HasPrefix(row, " "):
			list[len(list)-1] += " " + strings.Join(fields, " ")
		case len(fields) > numbers:
			list = append(list, strings.Join(fields[1:len(fields)-numbers], " "))
		}
	}
	return list
}
