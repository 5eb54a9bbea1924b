package recorder

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/process"
	"clntrace/collector/recording"
	"clntrace/collector/zipkin"
)

// described gives the tags of a span as they are.
type described struct{ span *correlate.Span }

func (d *described) Append(list []attribute.KeyValue) []attribute.KeyValue {
	for _, t := range d.span.Tags {
		list = append(list, attribute.String(t.Key, t.Value))
	}
	return list
}

// narrow is s as the recorder takes it. Its attributes are valid until d is changed.
func narrow(s *correlate.Span, d *described) Span {
	d.span = s
	out := Span{
		TraceID: s.TraceID, ID: s.ID, Parent: s.ParentID, Process: s.Process.Name, PID: s.Process.PID,
		Name: s.Name, Detail: s.Detail, Start: s.Timestamp, Duration: s.Duration, Failed: s.Failed(), Added: s.Synthetic,
		Attributes: d,
	}
	if s.Synthetic {
		out.Name = cln.SpanWhole
	}
	if !s.ParentID.IsValid() && len(s.Tags) <= 2 && !slices.ContainsFunc(s.Tags, func(t zipkin.Tag) bool { return !cln.Recurs(t.Key) }) {
		out.Form.Process, out.Form.Name = PlaceOf(out.Process), PlaceOf(out.Name)
		for i, t := range s.Tags {
			out.Form.Tags[i] = [2]Place{PlaceOf(t.Key), PlaceOf(t.Value)}
		}
	}
	return out
}

// came is a span and when it came.
type came struct {
	*correlate.Span
	at time.Time
}

// decoded decodes a recording: each span as it was sent, and when.
func decoded(t testing.TB, list []recording.Datagram) (spans []came) {
	t.Helper()
	var decoder zipkin.Decoder
	var details cln.Reader
	identities := make(map[int]*process.Identity)
	for _, d := range list {
		s := new(correlate.Span)
		// What is empty is a notification.
		if len(d.Payload) == 0 || decoder.Decode(d.Payload, &s.Span) != nil {
			continue
		}
		if identities[d.PID] == nil {
			identities[d.PID] = &process.Identity{PID: int32(d.PID), Name: d.Exe, Known: true}
		}
		s.Process = identities[d.PID]
		s.Detail = details.Of(s.Name, s)
		spans = append(spans, came{s, s.End()})
	}
	return spans
}

// correlated decodes and correlates a recording, with the time that it took.
func correlated(t testing.TB, list []recording.Datagram) (spans []came) {
	t.Helper()
	c := correlate.New(correlate.Options{Run: correlate.Run{PID: 1, StartTime: 1}})
	var now, ticked time.Time
	take := func(ready []*correlate.Span) {
		for _, s := range ready {
			spans = append(spans, came{s, now})
		}
	}
	for _, s := range decoded(t, list) {
		if now = s.at; now.Sub(ticked) >= time.Second {
			c.Expire(now)
			ticked = now
		}
		take(c.Correlate([]*correlate.Span{s.Span}, now))
	}
	now = now.Add(10 * time.Second)
	c.Flush(now)
	take(c.Ready())
	return spans
}

// play records the spans and lets time pass, until all waits are over.
func play(r *Recorder, spans []came) (now time.Time) {
	var d described
	var ticked time.Time
	for _, s := range spans {
		if s.at.Sub(ticked) >= time.Second {
			r.Tick(s.at)
			ticked = s.at
		}
		in := narrow(s.Span, &d)
		r.Add(&in, s.at)
		now = s.at
	}
	now = now.Add(quietTime)
	r.Tick(now)
	return now
}

// recordings are those in the binary, and all of the corpus if CLNTRACE_CORPUS is
// set.
func recordings(t testing.TB) map[string][]recording.Datagram {
	t.Helper()
	all := make(map[string][]recording.Datagram)
	var err error
	if all["startup"], err = recording.Startup(); err != nil {
		t.Fatal(err)
	}
	if all["xpay"], err = recording.Xpay(); err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("CLNTRACE_CORPUS")
	if dir == "" {
		return all
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.jsonl.gz"))
	for _, f := range files {
		if all[filepath.Base(f)], err = recording.Load(f); err != nil {
			t.Fatal(err)
		}
	}
	return all
}
