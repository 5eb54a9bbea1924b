package collector

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"clntrace/collector/otlp"
	"clntrace/collector/process"
	"clntrace/collector/recording"
	"clntrace/collector/socket"
)

// BenchmarkStreet takes recordings down the whole street, up to the point where exporting
// would begin, with the recorder and without it: those in the binary, and all of the
// corpus if CLNTRACE_CORPUS is set. It reports the processor time of a span, that of the
// garbage collector included: the mean, and that of the piece that took least, which is
// what a span costs when nothing else wants the processor.
func BenchmarkStreet(b *testing.B) {
	const piece = 20_000 // spans at least
	for name, list := range recordings(b) {
		for kind, size := range map[string]int{"recorder": DefaultConfig().RecorderSize, "no recorder": 0} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				p := newPlayer(b, list, size)
				times := 1 + piece/len(p.datagrams)
				p.play(times) // to warm up
				spans, sum, least := float64(times*len(p.datagrams)), time.Duration(0), time.Hour
				b.ReportAllocs()
				for b.Loop() {
					took := p.play(times)
					sum, least = sum+took, min(least, took)
				}
				b.ReportMetric(float64(sum.Nanoseconds())/spans/float64(b.N), "cpu-ns/span")
				if r := p.recorder.Load(); r != nil {
					b.ReportMetric(float64(r.Status().Bytes)/1024, "recorder-KiB")
				}
				b.ReportMetric(float64(least.Nanoseconds())/spans, "least-ns/span")
			})
		}
	}
}

// recordings are those in the binary, and all of the corpus if CLNTRACE_CORPUS is set.
func recordings(t testing.TB) map[string][]recording.Datagram {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(os.Getenv("CLNTRACE_CORPUS"), "*.jsonl.gz"))
	all := make(map[string][]recording.Datagram)
	for _, f := range files {
		list, err := recording.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".jsonl.gz")] = list
	}
	for name, load := range map[string]func() ([]recording.Datagram, error){"one start": recording.Startup, "one payment": recording.Xpay} {
		list, err := load()
		if err != nil {
			t.Fatal(err)
		}
		all[name] = list
	}
	return all
}

// player plays a recording to a decoder, again and again. As each time it is other
// traffic, it has other ids and times.
type player struct {
	*decoder  // another one each time
	datagrams []socket.Datagram
	places    [][]place       // for each datagram
	at        []time.Duration // when each came, since the first one
	proc      string
	first     time.Time
	played    int // times
}

// place is where a payload holds what differs each time it is played.
type place struct {
	at        int
	timestamp int64 // µs; 0: it is a part of an id
}

var (
	variable  = regexp.MustCompile(`"(?:id|parentId|traceId)":"[0-9a-f]{16}|"timestamp":[0-9]{16}`)
	requestID = regexp.MustCompile(`"tags":\{"id":"[^"#]*#`)
)

// varies are the digits of a part of an id that differs.
const varies = "00000000"

func newPlayer(b *testing.B, list []recording.Datagram, recorderSize int) *player {
	b.Helper()
	c := Open(Options{SocketProblem: "none is needed", Logger: slog.New(slog.DiscardHandler)})
	b.Cleanup(func() { _ = c.Shutdown(b.Context()) })
	cfg := DefaultConfig()
	cfg.Endpoint, cfg.SpoolSize, cfg.RecorderSize = otlp.OffEndpoint, 0, recorderSize
	c.Start(cfg, nil)
	p := &player{decoder: newDecoder(c), proc: fakeProcesses(b, list), first: time.Unix(0, list[0].SentNS)}
	for _, d := range list {
		if len(d.Payload) > 0 { // else it is a notification
			p.add(d)
		}
	}
	return p
}

// fakeProcesses returns a procfs of the senders of a recording.
func fakeProcesses(t testing.TB, list []recording.Datagram) string {
	t.Helper()
	proc := t.TempDir()
	for _, d := range list {
		dir := filepath.Join(proc, fmt.Sprint(d.PID))
		if os.Mkdir(dir, 0o755) != nil {
			continue // it is there
		}
		stat := fmt.Sprintf("%d (%s) S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 100 1000 10", d.PID, d.Exe)
		if err := os.WriteFile(filepath.Join(dir, "stat"), []byte(stat), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/bin/"+d.Exe, filepath.Join(dir, "exe")); err != nil {
			t.Fatal(err)
		}
	}
	return proc
}

func (p *player) add(d recording.Datagram) {
	payload := string(d.Payload)
	var places []place
	if found := requestID.FindStringIndex(payload); found != nil {
		payload = payload[:found[1]] + varies + payload[found[1]:]
		places = append(places, place{at: found[1]})
	}
	for _, found := range variable.FindAllStringIndex(payload, -1) {
		at := found[1] - 16
		where := place{at: at}
		if strings.HasPrefix(payload[found[0]:], `"timestamp"`) {
			_, _ = fmt.Sscan(payload[at:found[1]], &where.timestamp)
		}
		places = append(places, where)
	}
	p.datagrams = append(p.datagrams, socket.Datagram{PID: int32(d.PID), Payload: []byte(payload)}) //nolint:gosec // pids fit
	p.places = append(p.places, places)
	p.at = append(p.at, time.Unix(0, d.SentNS).Sub(p.first))
}

// play plays the recording that many times, and returns the processor time that it took.
func (p *player) play(times int) (took time.Duration) {
	lasts := p.at[len(p.at)-1] + 15*time.Second // longer than all waits
	for range times {
		late := time.Duration(p.played) * lasts
		p.played++
		p.renew(late)
		p.decoder = newDecoder(p.Collector) // for the senders count their requests anew
		p.processes = process.NewResolver(p.proc)
		p.release(p.first.Add(late))
		began := processorTime()
		p.once(late, lasts)
		took += processorTime() - began
	}
	return took
}

// once takes the datagrams down the street, in batches of what came within 10 ms.
func (p *player) once(late, lasts time.Duration) {
	const together = 10 * time.Millisecond
	ticked := time.Duration(0)
	for i := 0; i < len(p.datagrams); {
		end := i + 1
		for end < len(p.datagrams) && end-i < batchLen && p.at[end]-p.at[i] < together {
			end++
		}
		now := p.first.Add(late + p.at[i])
		if p.at[i]-ticked >= time.Second {
			ticked = p.at[i]
			p.tick(now)
		}
		p.pass(p.datagrams[i:end], now)
		i = end
	}
	for left := p.at[len(p.at)-1]; left < lasts; left += time.Second {
		p.tick(p.first.Add(late + left))
	}
}

// renew gives the datagrams ids that have not been played, and times that are later.
func (p *player) renew(late time.Duration) {
	id := fmt.Sprintf("%0*d", len(varies), p.played)
	for i, places := range p.places {
		for _, w := range places {
			if w.timestamp == 0 {
				copy(p.datagrams[i].Payload[w.at:], id)
				continue
			}
			left := w.timestamp + late.Microseconds()
			for at := w.at + 15; at >= w.at; at-- {
				p.datagrams[i].Payload[at] = byte('0' + left%10)
				left /= 10
			}
		}
	}
}

// processorTime is what this process has taken of it.
func processorTime() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r) // cannot fail
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
