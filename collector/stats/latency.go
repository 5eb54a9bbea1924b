package stats

import (
	"math"
	"time"

	"github.com/DataDog/sketches-go/ddsketch/mapping"
)

const (
	// accuracy is the greatest relative error of a bin. Together with rounding, the
	// error stays below the 2 % that is promised.
	accuracy = 0.018
	// exactUS bounds the durations for which the whole number nearest to the middle
	// of their bin is exact.
	exactUS = 0.5 / accuracy
	// longestUS is what longer spans count as in percentiles, so that absurd
	// durations take no memory: 30 days.
	longestUS = 30 * 24 * 3600 * 1_000_000
	// zeroUS is what a duration of 0 counts as: there is no bin for 0, and this
	// rounds to it.
	zeroUS = 0.25
	// binStep is by how many bins a window grows. From zeroUS to longestUS there are
	// some 840 bins, of 8 bytes each.
	binStep = 16
)

// latencyBins are the bins of DDSketch, all as wide as the accuracy allows. We do
// not use its stores for the counts: they grow as append does, to more than 8 KiB,
// which is too much 2,000 times.
var latencyBins, _ = mapping.NewCubicallyInterpolatedMapping(accuracy) // only fails for an accuracy outside of 0 to 1

// latency is a distribution of durations in µs.
type latency struct {
	minUS, maxUS uint64
	// counts are those of a window of the bins, which grows as needed; first is the
	// index of its first bin.
	counts []uint64
	first  int
}

func newLatency() latency { return latency{minUS: math.MaxUint64} }

func (l *latency) observe(us uint64) {
	l.minUS, l.maxUS = min(l.minUS, us), max(l.maxUS, us)
	bin := latencyBins.Index(max(zeroUS, float64(min(us, longestUS))))
	if i := bin - l.first; i < 0 || i >= len(l.counts) {
		l.widen(bin)
	}
	l.counts[bin-l.first]++
}

// widen extends the window to include bin.
func (l *latency) widen(bin int) {
	low := bin &^ (binStep - 1)
	high := low + binStep
	if len(l.counts) > 0 {
		low, high = min(low, l.first), max(high, l.first+len(l.counts))
	} else {
		l.first = low
	}
	wider := make([]uint64, high-low)
	copy(wider[l.first-low:], l.counts)
	l.counts, l.first = wider, low
}

// percentiles returns the 50th, 90th and 99th percentile in µs. count is the number
// of durations observed.
func (l *latency) percentiles(count uint64) (p [3]float64) {
	var ranks [len(p)]uint64
	for i, q := range [len(p)]float64{0.5, 0.9, 0.99} {
		ranks[i] = uint64(math.Ceil(q * float64(count))) // if there are few, the 99th is the longest
	}
	next, sum := 0, uint64(0)
	for i, n := range l.counts {
		sum += n
		for ; next < len(p) && sum >= ranks[next]; next++ {
			p[next] = l.tidy(latencyBins.Value(l.first + i))
		}
	}
	return p
}

// tidy turns the middle of a bin into a duration in µs, rounded, and within the
// shortest and the longest that were observed.
func (l *latency) tidy(middle float64) float64 {
	us := tenths(middle)
	switch {
	case middle < exactUS:
		us = math.Round(middle)
	case l.maxUS > longestUS && middle >= longestUS*(1-accuracy):
		us = float64(l.maxUS) // all that we know of these
	}
	return min(max(us, float64(l.minUS)), float64(l.maxUS))
}

// tenths rounds to one decimal, which is more precise than any number in a report.
func tenths(v float64) float64 { return math.Round(v*10) / 10 }

// Latency is the distribution of durations of one kind. The zero value is empty. It
// is not safe for concurrent use.
type Latency struct {
	durations latency
	count     uint64
	total     time.Duration
}

// Observe adds a duration; a negative one counts as 0.
func (l *Latency) Observe(d time.Duration) {
	if l.count == 0 {
		l.durations = newLatency()
	}
	d = max(d, 0)
	l.durations.observe(uint64(d.Microseconds())) //nolint:gosec // not negative
	l.count++
	l.total += d
}

// MeanMS returns the mean in ms; 0 if nothing was observed.
func (l *Latency) MeanMS() float64 {
	if l.count == 0 {
		return 0
	}
	return l.total.Seconds() * 1000 / float64(l.count)
}

// P99MS returns the 99th percentile in ms, which is at most 2 % off; 0 if nothing
// was observed.
func (l *Latency) P99MS() float64 {
	if l.count == 0 {
		return 0
	}
	return l.durations.percentiles(l.count)[2] / 1000
}
