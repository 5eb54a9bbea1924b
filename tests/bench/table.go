//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// row is one line of the table.
type row struct {
	load    string
	flatOut bool // the load is as fast as can be
	limit   int
	peer    peer
}

// key identifies a row; a peer is not comparable.
func (r row) key() string { return fmt.Sprint(r.load, r.limit, r.peer.key) }

// of is the key of the row of another peer with the same workload and limit.
func (r row) of(peer string) string { return fmt.Sprint(r.load, r.limit, peer) }

// results are the samples of all rows, one for each round, in order.
type results struct {
	rows    []row
	samples map[string][]*sample
}

func (r *results) add(at row, round int, s *sample) {
	if r.samples == nil {
		r.samples = make(map[string][]*sample)
	}
	if round == 0 {
		r.rows = append(r.rows, at)
	}
	r.samples[at.key()] = append(r.samples[at.key()], s)
}

// spread is a measure's values over the rounds.
type spread []float64

func (s spread) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// text is the median, and the range of the values.
func (s spread) text(format string) string {
	if len(s) == 0 {
		return "–"
	}
	text := fmt.Sprintf(format, s.median())
	if len(s) > 1 {
		text += fmt.Sprintf(" ("+format+"–"+format+")", slices.Min(s), slices.Max(s))
	}
	return text
}

// measured measures each sample; those that have no such measure are left out.
func measured(samples []*sample, measure func(*sample) float64) (s spread) {
	for _, sample := range samples {
		if v := measure(sample); v == v { // not 0/0
			s = append(s, v)
		}
	}
	return s
}

// ratio divides round by round, because the machine was in about the same state for
// both samples of a round.
func ratio(samples, others []*sample, measure func(*sample) float64) (s spread) {
	for i := range min(len(samples), len(others)) {
		if v := measure(samples[i]) / measure(others[i]); v == v {
			s = append(s, v)
		}
	}
	return s
}

func cpuPerSpan(s *sample) float64 { return float64(s.cpu.Microseconds()) / float64(s.delivered) }
func cpuPerDatagram(s *sample) float64 {
	return float64(s.cpu.Microseconds()) / float64(s.received)
}
func peakMiB(s *sample) float64    { return float64(s.peak) / (1 << 20) }
func senderWall(s *sample) float64 { return float64(s.Wall.Nanoseconds()) / 1e3 / float64(s.Tried()) }

// takenPerSecond is how many thousand datagrams a second the kernel took from each
// sender. At full speed it says more than the share that was lost, which also
// depends on how fast refusals are.
func takenPerSecond(s *sample) float64 { return float64(s.Sent) / s.Wall.Seconds() / 1e3 }
func senderCPU(s *sample) float64      { return float64(s.CPU.Nanoseconds()) / 1e3 / float64(s.Tried()) }

// legend explains the numbers.
var legend = []string{
	"CPU is user and system time of all of the receiver's processes from start to exit, per span that it delivered and per datagram that it read, including those that it counted and could not keep; memory is the sum of their peaks.",
	"A sender's time is what it spends in and around sendto. Being refused takes less time than being received, so a sender that loses datagrams is faster.",
}

// write writes the tables, with their legend and notes.
func (r *results) write(w io.Writer, b *bench) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\n`go run ./bench %s`; rounds: %d; medians (lowest–highest).\n\n",
		machine(b.namespace.err), strings.Join(b.args, " "), b.config.rounds)
	r.writeMain(&text)
	r.writeAgainst(&text)
	for _, note := range slices.Concat(legend, b.notes, r.remarks()) {
		fmt.Fprintf(&text, "- %s\n", note)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (r *results) writeMain(w io.Writer) {
	fmt.Fprintln(w, "| workload | queue | receiver | datagrams | lost in the kernel | lost later | taken, 1000 a second and sender | CPU, µs a span | CPU, µs a datagram | peak memory, MiB | sender, µs a datagram | sender's time, × floor | sender's CPU, × floor |")
	fmt.Fprintln(w, "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, at := range r.rows {
		samples, floor := r.samples[at.key()], r.samples[at.of(floorKey)]
		tried := measured(samples, func(s *sample) float64 { return float64(s.Tried()) })
		kernel := measured(samples, func(s *sample) float64 { return float64(s.Refused + s.Failed) })
		later := measured(samples, func(s *sample) float64 { return float64(s.later()) })
		total := tried.median()
		sent, lost := spread{total}.text("%.0f"), share(kernel, total)
		if total == 0 { // a real node
			total = measured(samples, func(s *sample) float64 { return float64(s.received) }).median()
			sent, lost = "?", r.guess(at)
		}
		taken := "–"
		if at.flatOut {
			taken = measured(samples, takenPerSecond).text("%.0f")
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n",
			at.load, at.limit, at.peer.title, sent, lost, share(later, total), taken,
			measured(samples, cpuPerSpan).text("%.2f"), measured(samples, cpuPerDatagram).text("%.2f"),
			measured(samples, peakMiB).text("%.1f"),
			measured(samples, senderWall).text("%.2f"),
			ratio(samples, floor, senderWall).text("%.2f"), ratio(samples, floor, senderCPU).text("%.2f"))
	}
	fmt.Fprintln(w)
}

// share is how many of the datagrams were lost, as a number and as a percentage.
func share(lost spread, total float64) string {
	if slices.Max(lost) == 0 && slices.Min(lost) == 0 {
		return "0"
	}
	return fmt.Sprintf("%s = %.2f %%", lost.text("%.0f"), 100*lost.median()/total)
}

// guess estimates how many datagrams of a real node were lost, by comparison with
// the greatest number that any receiver got.
func (r *results) guess(at row) string {
	var most int64
	for _, other := range r.rows {
		if other.load == at.load {
			for _, s := range r.samples[other.key()] {
				most = max(most, s.received)
			}
		}
	}
	lost := measured(r.samples[at.key()], func(s *sample) float64 { return float64(most - s.received) })
	return "about " + share(lost, float64(most))
}

// writeAgainst writes what the others need in comparison with clntrace.
func (r *results) writeAgainst(w io.Writer) {
	heading := "| workload | queue | receiver | CPU a span, × clntrace | peak memory, × clntrace |\n| --- | ---: | --- | ---: | ---: |\n"
	for _, at := range r.rows {
		samples, own := r.samples[at.key()], r.samples[at.of(clntraceKey)]
		if len(own) == 0 || at.peer.key == clntraceKey {
			continue
		}
		fmt.Fprintf(w, "%s| %s | %d | %s | %s | %s |\n", heading, at.load, at.limit, at.peer.title,
			ratio(samples, own, cpuPerSpan).text("%.2f"), ratio(samples, own, peakMiB).text("%.2f"))
		heading = ""
	}
	if heading == "" {
		fmt.Fprintln(w)
	}
}

// remarks say what the receivers themselves report about losses, and which counts
// do not add up.
func (r *results) remarks() (list []string) {
	var synthetic int64
	for _, at := range r.rows {
		losses := map[string]int64{}
		var failed, unaccounted int64
		for _, s := range r.samples[at.key()] {
			for name, n := range s.losses {
				losses[name] += n
			}
			failed += s.Failed
			synthetic += s.synthetic
			if s.Tried() > 0 {
				unaccounted += s.Sent - s.received
			}
		}
		where := fmt.Sprintf("%s, %s, queue %d, all rounds: ", at.peer.title, at.load, at.limit)
		for _, name := range slices.Sorted(maps.Keys(losses)) {
			if losses[name] > 0 {
				list = append(list, fmt.Sprintf("%s%d %s, as it says itself", where, losses[name], name))
			}
		}
		if failed > 0 {
			list = append(list, fmt.Sprintf("%s%d datagrams failed with an error other than a full queue", where, failed))
		}
		if unaccounted != 0 {
			list = append(list, fmt.Sprintf("DEFECT: %s%d datagrams that the kernel took do not show in its count", where, unaccounted))
		}
	}
	if synthetic > 0 {
		list = append(list, fmt.Sprintf("Not counted above: %d spans that nobody sent, the roots that clntrace adds to requests", synthetic))
	}
	return list
}

// machine describes the machine.
func machine(shared error) string {
	var name unix.Utsname
	kernel := "unknown"
	if unix.Uname(&name) == nil {
		kernel = unix.ByteSliceToString(name.Release[:])
	}
	buffer, _ := os.ReadFile("/proc/sys/net/core/wmem_default")
	where := "in a network namespace of its own"
	if shared != nil {
		where = "in the machine's network namespace"
	}
	return fmt.Sprintf("%d cores, Linux %s, %s, %s; net.core.wmem_default %s, %s",
		runtime.NumCPU(), kernel, runtime.GOARCH, runtime.Version(),
		cmp.Or(strings.TrimSpace(string(buffer)), "unknown"), where)
}
