package cln

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Notifications as lightningd v26.06.6 sent them.
const (
	partStart = `{"pay_part_start":{"payment_hash":"3180dc21082a6d81b94c33f7a6ddceb0cb35991e84083243daa221a06d18de90","groupid":6050048046473388346,"partid":1,"total_payment_msat":1000,"attempt_msat":1000,"hops":[{"next_node":"023a80fc6ef3f1f95a86d17fb7473729b678d77b4a111c41bf70dd393a11a5040f","short_channel_id":"218x1x0","direction":1,"channel_in_msat":1001,"channel_out_msat":1001},{"next_node":"02fd8444ea596d3e6a6c89caf1dc1264eda4b15fb6e88ef73985953a35204b50f3","short_channel_id":"218x2x0","direction":0,"channel_in_msat":1001,"channel_out_msat":1000}]}}`
	partEnd   = `{"pay_part_end":{"status":"failure","payment_hash":"177fe595b74b1d4d43ead15fcf830952016e0248193f8543424e0017e3b26fd8","groupid":298297552289643545,"partid":1,"failed_msg":"10070000","duration":0.256824744,"failed_node_id":"023a80fc6ef3f1f95a86d17fb7473729b678d77b4a111c41bf70dd393a11a5040f","failed_short_channel_id":"103x2x0","failed_direction":0,"error_code":4103,"error_message":"temporary_channel_failure"}}`
	settled   = `{"forward_event":{"updated_index":9,"payment_hash":"3180dc21082a6d81b94c33f7a6ddceb0cb35991e84083243daa221a06d18de90","in_channel":"218x1x0","in_htlc_id":0,"out_channel":"218x2x0","in_msat":1001,"out_msat":1000,"fee_msat":1,"status":"settled","style":"tlv","received_time":1795630189.934270492,"resolved_time":1795630190.238179700,"preimage":"7ddd975c7a6655b7340a2eecb4f737de8ebcfe5c481f8d369872ca226dc40fa7"}}`
	local     = `{"forward_event":{"created_index":20,"payment_hash":"177fe595b74b1d4d43ead15fcf830952016e0248193f8543424e0017e3b26fd8","in_channel":"103x1x0","in_htlc_id":9,"in_msat":6003060031,"status":"local_failed","failcode":4103,"failreason":"WIRE_TEMPORARY_CHANNEL_FAILURE","style":"tlv","received_time":1795630195.0235586}}`
	invoice   = `{"invoice_payment":{"msat":1000,"preimage":"7ddd975c7a6655b7340a2eecb4f737de8ebcfe5c481f8d369872ca226dc40fa7","label":"net-13130-1"}}`
	block     = `{"block_added":{"hash":"ef1d3b8f91c08b05d4031c6223362ba7e7fcec8eff7191f83f024e5d6dc78dd6","height":1}}`
)

func hash(text string) (h Hash) {
	if _, err := hex.Decode(h[:], []byte(text)); err != nil {
		panic(err)
	}
	return h
}

func node(text string) (n NodeID) {
	if _, err := hex.Decode(n[:], []byte(text)); err != nil {
		panic(err)
	}
	return n
}

func scid(block, tx, out uint64) Channel { return Channel(block<<40 | tx<<16 | out) }

func TestNotifications(t *testing.T) {
	paid := hash("3180dc21082a6d81b94c33f7a6ddceb0cb35991e84083243daa221a06d18de90")
	failed := hash("177fe595b74b1d4d43ead15fcf830952016e0248193f8543424e0017e3b26fd8")
	router := node("023a80fc6ef3f1f95a86d17fb7473729b678d77b4a111c41bf70dd393a11a5040f")
	receiver := node("02fd8444ea596d3e6a6c89caf1dc1264eda4b15fb6e88ef73985953a35204b50f3")
	for _, tt := range []struct {
		topic, params string
		want          Event
	}{
		{TopicPartStart, partStart, PartStart{
			Part: Part{paid, 6050048046473388346, 1}, TotalMsat: 1000, AmountMsat: 1000, FeeMsat: 1, HopCount: 2,
			Hops: []Hop{{router, scid(218, 1, 0), 1}, {receiver, scid(218, 2, 0), 0}},
		}},
		{TopicPartEnd, partEnd, PartEnd{
			Part: Part{failed, 298297552289643545, 1}, Duration: 256824744 * time.Nanosecond, Code: 4103,
			Reason: "temporary_channel_failure", FailedNode: router, FailedChannel: scid(103, 2, 0),
		}},
		{TopicForward, settled, Forward{
			Hash: paid, In: scid(218, 1, 0), Out: scid(218, 2, 0), InMsat: 1001, OutMsat: 1000, FeeMsat: 1, Status: ForwardSettled,
			Received: 1795630189934270492, Resolved: 1795630190238179700, Updated: 9,
		}},
		{TopicForward, local, Forward{
			Hash: failed, In: scid(103, 1, 0), InHTLC: 9, InMsat: 6003060031, Status: ForwardLocalFailed,
			Reason: "WIRE_TEMPORARY_CHANNEL_FAILURE", Received: 1795630195023558600, Created: 20,
		}},
		{TopicInvoicePaid, invoice, InvoicePaid{paid, 1000}},
		{TopicBlockAdded, block, BlockAdded{1}},
	} {
		inner := fields(tt.topic, []byte(tt.params))
		for form, params := range map[string]string{
			"as sent":       tt.params,
			"as documented": `{"origin":"cln-xpay","payload":` + tt.params + `}`,
			"payload alone": `{"payload": ` + string(inner) + ` , "origin" : "lightningd"}`,
			"bare":          string(inner),
			"spaced":        spaced(t, tt.params),
		} {
			got, err := ParseNotification(tt.topic, []byte(params))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%s %s:\n got %+v %v\nwant %+v", tt.topic, form, got, err, tt.want)
			}
		}
	}
}

func spaced(t *testing.T, params string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(params), " \r", "\t"); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What is new, missing or of another type is no fault.
func TestNotificationsSurprise(t *testing.T) {
	h := `"payment_hash":"` + strings.Repeat("ab", 32) + `"`
	hops := strings.Repeat(`{"next_node":"02`+strings.Repeat("cd", 32)+`","short_channel_id":"1x2x3","direction":1,"channel_in_msat":9,"channel_out_msat":8,"new":{}},`, 100)
	for _, tt := range []struct {
		topic, params string
		check         func(Event) bool
	}{
		{TopicPartStart, `{` + h + `}`, func(e Event) bool { return e.(PartStart).HopCount == 0 }},
		{TopicPartStart, `{` + h + `,"groupid":"18446744073709551615","partid":"7","hops":[]}`, func(e Event) bool {
			s := e.(PartStart)
			return s.Group == 1<<64-1 && s.Number == 7 && len(s.Hops) == 0
		}},
		{TopicPartStart, `{` + h + `,"groupid":18446744073709551616,"attempt_msat":"1000msat","total_payment_msat":null,"hops":{"a":[1]}}`, func(e Event) bool {
			s := e.(PartStart)
			return s.Group == 0 && s.AmountMsat == 1000 && s.HopCount == 0
		}},
		{TopicPartStart, `{` + h + `,"hops":[` + hops + `3,null,"x",[]]}`, func(e Event) bool {
			s := e.(PartStart)
			return s.HopCount == 104 && len(s.Hops) == maxHops && s.Hops[63].Channel.String() == "1x2x3"
		}},
		{TopicPartEnd, `{` + h + `,"status":"failure","duration":"x","error_code":-1,"error_message":7,"failed_node_id":"02","failed_short_channel_id":"16777216x0x0"}`, func(e Event) bool {
			end := e.(PartEnd)
			return end.Duration == 0 && end.Reason == "" && end.FailedNode == NodeID{} && end.FailedChannel == 0
		}},
		{TopicForward, `{"in_channel":"1x1x1","in_htlc_id":0,"status":"offered","received_time":1e9,"new_field":[{"}":"]"}]}`, func(e Event) bool {
			return e.(Forward).Received == 0
		}},
		{TopicInvoicePaid, `{"preimage":"` + strings.Repeat("00", 32) + `","msat":"12msat","label":"\"}"}`, func(e Event) bool {
			return e.(InvoicePaid).AmountMsat == 12 && e.(InvoicePaid).Hash == sha256.Sum256(make([]byte, 32))
		}},
	} {
		e, err := ParseNotification(tt.topic, []byte(tt.params))
		if err != nil || !tt.check(e) {
			t.Errorf("%s %.80s: %+v, %v", tt.topic, tt.params, e, err)
		}
	}
}

func TestNotificationsMalformed(t *testing.T) {
	h := `"payment_hash":"` + strings.Repeat("ab", 32) + `"`
	for topic, list := range map[string][]string{
		TopicPartStart:   {``, `{`, `null`, `[]`, `{}`, `{"pay_part_start":[]}`, `{"payment_hash":"ab"}`, `{"payment_hash":"` + strings.Repeat("zz", 32) + `"}`, `{` + h + `}x`},
		TopicPartEnd:     {`{` + h + `}`, `{` + h + `,"status":"perhaps"}`, `{"status":"success"}`},
		TopicForward:     {`{"status":"offered"}`, `{"in_channel":"1x1x1","status":"offered"}`, `{"in_channel":"1x1x1","in_htlc_id":1,"status":"new"}`, `{"in_channel":7,"in_htlc_id":1,"status":"offered"}`},
		TopicInvoicePaid: {`{"msat":1}`, `{"preimage":"00"}`},
		TopicBlockAdded:  {`{}`, `{"height":"tall"}`, `{"height":4294967296}`, `{"height":-1}`},
	} {
		for _, params := range list {
			if e, err := ParseNotification(topic, []byte(params)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s %s: %+v, %v", topic, params, e, err)
			}
		}
	}
	if _, err := ParseNotification("sendpay_success", []byte(`{}`)); !errors.Is(err, ErrTopic) {
		t.Errorf("sendpay_success: %v", err)
	}
}

// Nothing of a preimage is left in the buffer, whatever becomes of the message.
func TestNotificationsAreWiped(t *testing.T) {
	for _, tt := range [][2]string{
		{TopicForward, settled}, {TopicInvoicePaid, invoice}, {"sendpay_success", invoice}, {TopicInvoicePaid, invoice[:len(invoice)-1]},
	} {
		params := []byte(tt[1])
		_, _ = ParseNotification(tt[0], params)
		if len(bytes.Trim(params, "\x00")) > 0 {
			t.Errorf("%s leaves %q", tt[0], params)
		}
	}
}

// Whatever comes, the event is bounded, an error tells nothing of what was sent, and
// neither depends on members that may hold a secret.
func FuzzNotification(f *testing.F) {
	for _, s := range []string{partStart, partEnd, settled, local, invoice, block} {
		for i := range Topics() {
			f.Add(i, s, "net-13130-1")
			f.Add(i, `{"payload":`+s+`}`, `"}`)
		}
	}
	f.Add(0, `{"payment_hash":"\u00`, "lnbcrt1")
	f.Fuzz(func(t *testing.T, topic int, params, secret string) {
		name := Topics()[uint(topic)%uint(len(Topics()))]
		e, err := ParseNotification(name, []byte(params))
		if (e == nil) != (err != nil) || err != nil && (!errors.Is(err, ErrMalformed) || len(err.Error()) > 100) {
			t.Fatalf("%+v, %v", e, err)
		}
		if s, ok := e.(PartStart); ok && (len(s.Hops) > maxHops || len(s.Hops) > s.HopCount) {
			t.Fatalf("%d of %d hops", len(s.Hops), s.HopCount)
		}
		if !json.Valid([]byte(params)) {
			return
		}
		inner := bytes.TrimLeft(fields(name, []byte(params)), " \t\r\n")
		if inner[0] != '{' || name == TopicInvoicePaid {
			return
		}
		quoted, _ := json.Marshal(secret)
		var more []byte
		for _, member := range []string{"preimage", "label", "description", "bolt11", "bolt12", "payment_preimage"} {
			more = fmt.Appendf(more, `"%s":%s,`, member, quoted)
		}
		more = append(append([]byte{'{'}, more...), `"x":`...)
		more = append(append(more, inner...), '}') // inner once as a member that is unknown
		if e, err := ParseNotification(name, bytes.Clone(more)); err == nil {
			t.Fatalf("%s: %+v", more, e)
		}
		more = append(bytes.TrimSuffix(more, append([]byte(`"x":`), append(inner, '}')...)), bytes.TrimLeft(inner[1:], " \t\r\n")...)
		if !json.Valid(more) { // inner is empty, and more ends in a comma
			return
		}
		again, err := ParseNotification(name, more)
		if !reflect.DeepEqual(e, again) || (e == nil) != (err != nil) {
			t.Fatalf("%+v, with secrets %+v, %v", e, again, err)
		}
	})
}

func BenchmarkNotification(b *testing.B) {
	for topic, params := range map[string]string{TopicPartStart: partStart, TopicPartEnd: partEnd, TopicForward: settled, TopicInvoicePaid: invoice} {
		b.Run(topic, func(b *testing.B) {
			b.ReportAllocs()
			buffer := make([]byte, len(params))
			for range b.N {
				copy(buffer, params)
				if _, err := ParseNotification(topic, buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
