package export

import (
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/otlp"
	"clntrace/collector/recording"
	"clntrace/collector/zipkin"
)

// BenchmarkMeaning measures what it costs to say what a span means: decoding a
// recorded payment into spans with their tags as attributes, and the same with
// details, correlation and standard attributes.
func BenchmarkMeaning(b *testing.B) {
	datagrams, err := recording.Xpay()
	if err != nil {
		b.Fatal(err)
	}
	decode := func(d *zipkin.Decoder, i int) *correlate.Span {
		s := &correlate.Span{Process: pay}
		if err := d.Decode(datagrams[i%len(datagrams)].Payload, &s.Span); err != nil {
			b.Fatal(err)
		}
		return s
	}
	b.Run("as sent", func(b *testing.B) {
		var d zipkin.Decoder
		i := 0
		for b.Loop() {
			s := newOutgoing(decode(&d, i))
			for _, tag := range s.in.Tags {
				s.out.attributes = append(s.out.attributes, attribute.String(tag.Key, tag.Value))
			}
			i++
		}
	})
	b.Run("with its meaning", func(b *testing.B) {
		var d zipkin.Decoder
		var details cln.Reader
		c := correlate.New(correlate.Options{Run: correlate.Run{PID: 1, StartTime: 1}})
		policy, descriptions := policyOf(config(otlp.OffEndpoint)), newDescriptions(databaseSystem("sqlite3"))
		now := time.Unix(1795324398, 0)
		i := 0
		for b.Loop() {
			s := decode(&d, i)
			s.Detail = details.Of(s.Name, s)
			now = now.Add(60 * time.Microsecond) // the highest peak of a real node
			c.Add(s, now)
			if i++; i%64 == 0 {
				c.Expire(now)
				descriptions.begin(policy)
				for _, s := range c.Ready() {
					descriptions.describe(s, new(outgoing))
				}
				descriptions.end()
			}
		}
	})
}
