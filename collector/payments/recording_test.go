package payments

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"clntrace/collector/cln"
	"clntrace/collector/zipkin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// event is a line of a recording: a span or a notification.
type event struct {
	at   time.Time
	from Sender
	span *zipkin.Span
	note cln.Event
}

// load reads a recording in the order of arrival. testdata holds what of three of
// them matters here, without preimages; CLNTRACE_CORPUS names a directory with whole
// ones.
func load(t testing.TB, path string) (list []event) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var decoder zipkin.Decoder
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			R    int64  `json:"r"`
			PID  int32  `json:"pid"`
			Exe  string `json:"exe"`
			B64  []byte `json:"b64"`
			Note *struct {
				Method string          `json:"method"`
				Params json.RawMessage `json:"params"`
			} `json:"note"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		e := event{at: time.Unix(0, line.R), from: Sender{line.Exe, line.PID, 1}}
		if line.Note == nil {
			e.span = new(zipkin.Span)
			if err := decoder.Decode(line.B64, e.span); err != nil {
				continue
			}
		} else if e.note, err = cln.ParseNotification(line.Note.Method, line.Note.Params); err != nil {
			continue // not one of ours, or without the preimage
		}
		list = append(list, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(list, func(a, b event) int { return a.at.Compare(b.at) })
	return list
}

func recordings(t testing.TB) map[string][]event {
	t.Helper()
	paths, _ := filepath.Glob("testdata/*.jsonl.gz")
	if dir := os.Getenv("CLNTRACE_CORPUS"); dir != "" {
		more, _ := filepath.Glob(filepath.Join(dir, "payments-*.jsonl.gz"))
		paths = append(paths, more...)
	}
	all := make(map[string][]event)
	for _, path := range paths {
		all[path] = load(t, path)
	}
	if len(all) < 3 {
		t.Fatalf("recordings: %v", paths)
	}
	return all
}

// request makes a request id of the path of a span.
func request(s *zipkin.Span) (id RequestID) {
	if s.Name == cln.SpanRequest {
		copy(id[:], cln.Path(s.Tag(cln.TagID)).Root())
		copy(id[10:], strings.TrimPrefix(string(cln.Path(s.Tag(cln.TagID)).Root()), "cli:"))
	}
	return id
}

// replay sends a recording through a Tracker and returns all that comes out.
func replay(t *Tracker, list []event) (out Output) {
	take := func() {
		o := t.Take()
		out.Joined = append(out.Joined, o.Joined...)
		out.Spans = append(out.Spans, o.Spans...)
		out.Observations = append(out.Observations, o.Observations...)
	}
	var tick time.Time
	for _, e := range list {
		if tick.IsZero() {
			tick = e.at
		}
		for ; tick.Before(e.at); tick = tick.Add(200 * time.Millisecond) {
			t.Advance(tick)
			take()
		}
		if e.span != nil {
			t.Observe(e.span, e.from, request(e.span), e.span, e.at)
		} else {
			t.Notify(e.note, e.at)
		}
	}
	t.Advance(tick.Add(2 * time.Second))
	t.Flush(tick.Add(10 * time.Second))
	take()
	return out
}

// truth is what belongs together in a recording that is whole: the k-th of one
// stream and the k-th of the other.
type truth struct {
	parts  map[*zipkin.Span]cln.Part
	blocks map[*zipkin.Span]uint32
	offers map[forwardKey]*zipkin.Span
	payers map[cln.Hash]RequestID
}

func truthOf(t testing.TB, list []event) truth {
	t.Helper()
	var parts, tips, changes []*zipkin.Span
	var ends []cln.Part
	var heights []uint32
	var forwards []cln.Forward
	adds := map[trace.SpanID]bool{}
	for _, e := range list {
		switch n := e.note.(type) {
		case cln.PartEnd:
			ends = append(ends, n.Part)
		case cln.BlockAdded:
			heights = append(heights, n.Height)
		case cln.Forward:
			forwards = append(forwards, n)
		}
		if s := e.span; s != nil {
			_, method := cln.Path(s.Tag(cln.TagID)).Last()
			switch {
			case s.Name == cln.SpanRequest && method == cln.MethodSendPart && e.from.Program == programSends:
				parts = append(parts, s)
			case cln.AddsBlock(s.Name):
				adds[s.ParentID] = true
			case s.Name == cln.SpanExtendTip && adds[s.ID]:
				tips = append(tips, s)
			case cln.IsForwardUpdate(s.Tag(cln.TagQuery)):
				changes = append(changes, s)
			}
		}
	}
	if len(parts) != len(ends) || len(heights) > 0 && len(tips) != len(heights) || len(changes) != len(forwards) {
		t.Fatalf("%d of %d parts, %d of %d blocks, %d of %d forwards", len(parts), len(ends), len(tips), len(heights), len(changes), len(forwards))
	}
	all := truth{map[*zipkin.Span]cln.Part{}, map[*zipkin.Span]uint32{}, map[forwardKey]*zipkin.Span{}, map[cln.Hash]RequestID{}}
	for i, s := range parts {
		all.parts[s] = ends[i]
		all.payers[ends[i].Hash] = request(s)
	}
	for i := range heights {
		all.blocks[tips[i]] = heights[i]
	}
	for i, s := range changes {
		if forwards[i].Status == cln.ForwardOffered {
			all.offers[forwardKey{forwards[i].In, forwards[i].InHTLC}] = s
		}
	}
	return all
}

// score is how many were joined, wrongly, and could have been.
type score struct{ right, wrong, possible int }

func (s score) String() string {
	if s.possible == 0 {
		return "none"
	}
	return fmt.Sprintf("%d wrong, %d of %d joined (%.1f %%)", s.wrong, s.right, s.possible, 100*float64(s.right)/float64(s.possible))
}

// judge compares what came out of a recording of which some is missing with what
// belongs together.
func judge(tracker *Tracker, all truth, kept []event, out Output, scores map[string]*score) {
	there := map[*zipkin.Span]bool{}
	notes := map[any]bool{}
	for _, e := range kept {
		if e.span != nil {
			there[e.span] = true
		}
		switch n := e.note.(type) {
		case cln.PartEnd:
			notes[n.Part] = true
		case cln.BlockAdded:
			notes[n.Height] = true
		case cln.Forward:
			if n.Status == cln.ForwardOffered {
				notes[forwardKey{n.In, n.InHTLC}] = true
			}
		}
	}
	mark := func(kind string, right, wrong, possible bool) {
		for count, is := range map[*int]bool{&scores[kind].right: right, &scores[kind].wrong: wrong, &scores[kind].possible: possible} {
			if is {
				*count++
			}
		}
	}
	for s, p := range all.parts {
		mark("parts", false, false, there[s] && notes[p])
	}
	for s, h := range all.blocks {
		mark("blocks", false, false, there[s] && notes[h])
	}
	for _, j := range out.Joined {
		s := j.Ref.(*zipkin.Span)
		if j.Part != nil {
			right := all.parts[s] == j.Part.Part
			mark("parts", right && notes[j.Part.Part], !right, false)
		}
		if j.Height != 0 {
			right := all.blocks[s] == j.Height
			mark("blocks", right, !right, false)
		}
	}
	phases := map[trace.SpanID]Span{}
	for _, s := range out.Spans {
		phases[s.ID] = s
		if s.Kind == KindPayment {
			right := s.Request == all.payers[s.hash]
			mark("payers", right, !right && s.Request != RequestID{}, true)
		}
	}
	for key, s := range all.offers {
		f := forward{last: cln.Forward{In: key.in, InHTLC: key.htlc}}
		phase, ok := phases[tracker.forwardSpanID(KindDownstream, &f)]
		exact := ok && !phases[tracker.forwardSpanID(KindAccept, &f)].Approximate
		right := phase.Start.Equal(s.Start())
		mark("forwards", exact && right, exact && !right, there[s] && notes[key])
	}
}

// Whatever of the two streams is missing, no span is joined to a notification of
// something else, and no payment to another request.
func TestAlignmentOfRecordings(t *testing.T) {
	all := recordings(t)
	for _, missing := range []int{0, 2, 5, 20} {
		scores := map[string]*score{"parts": {}, "blocks": {}, "forwards": {}, "payers": {}}
		rounds := 60
		if missing == 0 {
			rounds = 1
		}
		for _, path := range slices.Sorted(maps.Keys(all)) {
			whole := truthOf(t, all[path])
			random := rand.New(rand.NewPCG(uint64(missing), 7)) //nolint:gosec // a test's
			for range rounds {
				kept := slices.DeleteFunc(slices.Clone(all[path]), func(event) bool { return random.IntN(100) < missing })
				tracker := New()
				tracker.SetMode(All)
				judge(tracker, whole, kept, replay(tracker, kept), scores)
			}
		}
		for kind, s := range scores {
			t.Logf("%2d %% missing: %s: %v", missing, kind, s)
			if s.wrong > 0 {
				t.Errorf("%d %% missing: %s: %d wrong", missing, kind, s.wrong)
			}
			if missing == 0 && s.right*10 < s.possible*9 || s.right*2 < s.possible {
				t.Errorf("%d %% missing: %s: %v", missing, kind, s)
			}
		}
	}
}
