package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// promised is the largest relative error that a percentile may have.
const promised = 0.02

func TestPercentilesAreWithinTwoPercent(t *testing.T) {
	const hour = 3_600_000_000 // µs
	r := rand.New(rand.NewPCG(1, 2))
	draw := func(n int, f func() float64) []uint64 {
		list := make([]uint64, n)
		for i := range list {
			list[i] = uint64(min(max(f(), 1), hour))
		}
		return list
	}
	for _, tc := range []struct {
		name string
		us   []uint64
	}{
		{"one, of 1 us", []uint64{1}},
		{"one, of 1 hour", []uint64{hour}},
		{"two far apart", []uint64{1, hour}},
		{"all the same", draw(1000, func() float64 { return 12_345 })},
		{"the shortest", draw(1000, func() float64 { return 1 + 30*r.Float64() })},
		{"even", draw(20_000, func() float64 { return hour * r.Float64() })},
		{"even on a logarithmic scale", draw(20_000, func() float64 { return math.Exp(r.Float64() * math.Log(hour)) })},
		{"statements", draw(20_000, func() float64 { return 180 * math.Exp(r.NormFloat64()) })},
		{"long tail", draw(20_000, func() float64 { return 50 / math.Pow(1-r.Float64(), 2) })},
		{"two humps", draw(20_000, func() float64 {
			if r.Float64() < 0.905 {
				return 100 + 10*r.NormFloat64()
			}
			return 5e6 * (1 + 0.1*r.NormFloat64())
		})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLatency()
			for _, us := range tc.us {
				l.observe(us)
			}
			p := l.percentiles(uint64(len(tc.us)))
			sorted := slices.Sorted(slices.Values(tc.us))
			for q, got := range map[float64]float64{0.5: p[0], 0.9: p[1], 0.99: p[2]} {
				want := float64(sorted[int(math.Ceil(q*float64(len(sorted))))-1])
				if e := math.Abs(got-want) / want; e > promised {
					t.Errorf("percentile %g is %g us, want %g: %.2f %% off", 100*q, got, want, 100*e)
				}
			}
		})
	}
}

func TestEveryDurationUpToAnHourIsWithinTwoPercent(t *testing.T) {
	for us := 1.0; us <= 3.6e9; us = math.Ceil(us * 1.0007) {
		l := newLatency()
		l.observe(uint64(us))
		l.minUS, l.maxUS = 0, math.MaxUint64 // which would hide the error of a single one
		if got := l.percentiles(1)[0]; math.Abs(got-us)/us > promised || (us < 25 && got != us) {
			t.Fatalf("%g us come back as %g", us, got)
		}
	}
}

func TestDurationsBeyondTheBins(t *testing.T) {
	for _, us := range []uint64{0, 1 << 45, 1 << 63} {
		table := NewOperations()
		table.Observe([]Observation{{lightningd, "s", "", time.Duration(min(us, math.MaxInt64/1000)) * time.Microsecond, false}}, start)
		if got := table.Operations(Query{Limit: 1}, showAll)[0]; got.P50US != float64(got.MaxUS) || got.P99US != float64(got.MaxUS) {
			t.Errorf("%d us: %+v", us, got)
		}
	}
	l := newLatency() // nonsense takes nothing away from what is real
	for range 98 {
		l.observe(1_000)
	}
	l.observe(1)
	l.observe(1 << 62)
	if p := l.percentiles(100); math.Abs(p[0]-1e3) > 20 || math.Abs(p[2]-1e3) > 20 {
		t.Errorf("the percentiles are %g", p)
	}
}

func TestNamesAreClipped(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", ""}, {"getroutes", "getroutes"},
		{strings.Repeat("x", 200), strings.Repeat("x", 200)},
		{strings.Repeat("x", 2000), strings.Repeat("x", 200)},
		{strings.Repeat("x", 199) + "日本", strings.Repeat("x", 199)},
	} {
		if got := Clip(tc.in); got != tc.want {
			t.Errorf("%d bytes come to %d, want %d", len(tc.in), len(got), len(tc.want))
		}
	}
	long := strings.Repeat("x", 2000)
	table := observe([]Observation{{identity(long, 1), long, long + "1", 0, false}, {identity(long, 1), long, long + "2", 0, false}})
	if got := table.Operations(Query{Limit: 5}, showAll); len(got) != 1 || got[0].Count != 2 || len(got[0].Process+got[0].Span+got[0].Detail) != 600 {
		t.Errorf("got %+v", got)
	}
}

func TestSortingByP99(t *testing.T) {
	var spans []Observation
	for i := range 1000 {
		spans = append(spans,
			Observation{lightningd, "s", "often slow", time.Duration(1+i%50) * time.Millisecond, false},
			Observation{lightningd, "s", "once slow", map[bool]time.Duration{true: time.Minute, false: time.Millisecond}[i == 0], false},
			Observation{lightningd, "s", "steady", 10 * time.Millisecond, false})
	}
	var got []string
	for _, o := range observe(spans).Operations(Query{Limit: 20, Sort: SortP99}, showAll) {
		got = append(got, o.Detail)
	}
	if s := strings.Join(got, ","); s != "often slow,steady,once slow" {
		t.Errorf("got %s", s)
	}
}

// fill makes a table as large as it can get: every operation there may be, each
// of every duration there is, under names as long as a datagram has room for.
func fill() *Operations {
	table := NewOperations()
	r := rand.New(rand.NewPCG(1, 2))
	long := strings.Repeat("x", 1800)
	for i := range MaxOperations + 1 {
		name := fmt.Sprint(i) + long
		spans := []Observation{{lightningd, "jsonrpc", name, time.Microsecond, false}}
		for range 2000 {
			d := time.Duration(math.Exp(r.Float64()*math.Log(3.6e9))) * time.Microsecond
			spans = append(spans, Observation{lightningd, "jsonrpc", name, d, false})
		}
		spans = append(spans, Observation{lightningd, "jsonrpc", name, 100 * 365 * 24 * time.Hour, false})
		table.Observe(spans, start)
	}
	return table
}

func TestMemoryOfAFullTable(t *testing.T) {
	const most = 16 << 20
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := held()
	table := fill()
	got := held() - before
	t.Logf("%.1f MiB", float64(got)/(1<<20))
	if got > most {
		t.Errorf("a full table takes %d bytes, at most %d are allowed", got, most)
	}
	if n := len(table.Operations(Query{Limit: 2 * MaxOperations}, showAll)); n != MaxOperations+1 {
		t.Errorf("it has %d rows", n)
	}
}

func BenchmarkReportOfAFullTable(b *testing.B) {
	table := fill()
	b.ReportAllocs()
	for b.Loop() {
		table.Operations(Query{Limit: 20, Sort: SortP99}, showAll)
	}
}

func BenchmarkObserveManyOperations(b *testing.B) {
	table := fill()
	r := rand.New(rand.NewPCG(1, 2))
	var spans []Observation
	for i := range 4096 {
		d := time.Duration(math.Exp(r.Float64()*math.Log(3.6e9))) * time.Microsecond
		spans = append(spans, Observation{lightningd, "jsonrpc", strings.Repeat("x", 20) + fmt.Sprint(i%MaxOperations), d, false})
	}
	table.Operations(Query{Reset: true}, showAll)
	table.Observe(spans, start)
	b.ReportAllocs()
	for b.Loop() {
		table.Observe(spans, start)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(spans)), "ns/span")
}

func TestLatencyOfRequests(t *testing.T) {
	var l Latency
	if l.MeanMS() != 0 || l.P99MS() != 0 {
		t.Errorf("of nothing, the mean is %v and the 99th percentile %v", l.MeanMS(), l.P99MS())
	}
	for i := range 200 {
		l.Observe(time.Duration(i+1) * time.Millisecond)
	}
	if l.MeanMS() != 100.5 || math.Abs(l.P99MS()-198) > 0.02*198 {
		t.Errorf("the mean is %v, the 99th percentile %v", l.MeanMS(), l.P99MS())
	}
	l.Observe(-time.Second) // a clock that was set back
	if l.MeanMS() != 100 {
		t.Errorf("the mean is %v", l.MeanMS())
	}
}
