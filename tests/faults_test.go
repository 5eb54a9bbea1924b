package tests

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// trial is a node to which a fault happens, and what became of its spans.
type trial struct {
	*testing.T
	r      *otlptest.Receiver
	cfg    lightningdtest.Config
	node   *lightningdtest.Node
	sender *lightningdtest.Sender

	sent       int    // spans that were sent
	tried      int    // spans that killing has tried to send
	counted    uint64 // spans counted as lost
	unknown    int    // spans neither delivered nor counted
	duplicates int    // spans that may arrive twice
}

// faultTable collects a line for each fault.
type faultTable struct {
	mu    sync.Mutex
	lines []string
}

func (f *faultTable) add(order int, columns ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	line := fmt.Sprintf("%02d", order)
	for _, c := range columns {
		line += fmt.Sprintf("\t%v", c)
	}
	f.lines = append(f.lines, line+"\t")
}

func (f *faultTable) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.Sort(f.lines)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fault\tsent\tdelivered\tcounted lost\tlost with the process\tduplicated\t")
	for _, line := range f.lines {
		_, columns, _ := strings.Cut(line, "\t")
		fmt.Fprintln(w, columns)
	}
	w.Flush()
	return b.String()
}

// TestFaults tries what can go wrong, and shows a table of what became of the
// spans. Run it with -v to see the table; -short kills less often.
func TestFaults(t *testing.T) {
	table := new(faultTable)
	t.Cleanup(func() { t.Logf("\n\n%s", table) }) // when all have ended
	for i, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			x := newTrial(t)
			t.Cleanup(func() {
				if t.Skipped() {
					table.add(i, f.name, "not tried", "", "", "", "")
				}
			})
			f.happens(x)
			delivered, twice := x.finish()
			table.add(i, f.name, x.sent, delivered, x.counted, x.unknown, twice)
		})
	}
}

func newTrial(t *testing.T) *trial {
	x := &trial{T: t, r: otlptest.Reserve(t)}
	x.cfg = config(x.r, map[string]string{"clntrace-batch-size": "64"})
	x.cfg.LightningDir = lightningdtest.Dir(t)
	return x
}

// up starts the receiver, and the node unless it runs.
func (x *trial) up() *trial {
	x.Helper()
	x.r.Start(x.T)
	return x.run()
}

// down is up without a receiver.
func (x *trial) down() *trial {
	x.Helper()
	x.r.Stop(x.T)
	return x.run()
}

func (x *trial) run() *trial {
	x.Helper()
	if x.node == nil {
		x.node = launch(x.T, x.cfg)
		x.sender = x.node.Senders(sender).Start("lightningd")
	}
	return x
}

func (x *trial) set(option, value string) *trial {
	x.cfg.Options["clntrace-"+option] = value
	return x
}

func (x *trial) spool() string {
	return filepath.Join(x.cfg.LightningDir, lightningdtest.Network, "clntrace-spool")
}

// send sends n more spans.
func (x *trial) send(n int) *trial {
	x.Helper()
	send(x.T, x.sender, recording.Numbered("extend_tip", x.sent+1, n)...)
	x.sent += n
	return x
}

// large sends n more spans of 1.4 kB.
func (x *trial) large(n int) *trial {
	x.Helper()
	query := "SELECT " + strings.Repeat("column_name, ", 100) + "id FROM channels;"
	payloads := make([][]byte, n)
	for i := range payloads {
		x.sent++
		id := fmt.Sprintf("%016x", x.sent)
		payloads[i] = recording.New(recording.Span{
			TraceID: "00000000000000c1" + id, ID: id, Name: "db_query_prepared", Start: now(), Tags: map[string]string{"query": query},
		})
	}
	send(x.T, x.sender, payloads...)
	return x
}

// until waits for a report of the plugin.
func (x *trial) until(what string, done func(report) bool) report {
	x.Helper()
	return waitStatsFor(x.T, x.node, 2*wait.Limit, what, done)
}

// spooled waits until all that was sent is on disk or gone.
func (x *trial) spooled() report {
	x.Helper()
	return x.until("all spans on disk", func(r report) bool {
		return r.Datagrams.Received >= uint64(x.sent) && r.Spans.Pending == 0 && r.Spans.Spooled > 0
	})
}

func (x *trial) warns(text string) {
	x.Helper()
	if r := stats(x.T, x.node); !slices.ContainsFunc(r.Warnings, mentions(text)) {
		x.Errorf("no warning mentions %q: %q", text, r.Warnings)
	}
}

// finish waits for the last span, and compares what was sent with what arrived or
// was counted.
func (x *trial) finish() (delivered, twice int) {
	x.Helper()
	r := x.until("every span to be delivered or counted", func(r report) bool {
		return r.Spans.Pending == 0 && r.Spans.Spooled == 0 && r.Spans.Exported+lost(r) == r.Datagrams.Accepted
	})
	x.counted += lost(r)
	endCleanly(x.T, x.node)
	delivered, twice = x.arrived()
	if x.unknown = x.sent - delivered - int(x.counted); x.unknown < 0 {
		x.Errorf("%d spans sent, %d delivered, and %d counted as lost", x.sent, delivered, x.counted)
	}
	if twice > x.duplicates {
		x.Errorf("%d spans were duplicated, allowed are %d", twice, x.duplicates)
	}
	return delivered, twice
}

func lost(r report) uint64 {
	return r.Spans.DroppedQueueFull + r.Spans.DroppedSpoolFull + r.Spans.RejectedByBackend
}

func (x *trial) arrived() (delivered, twice int) {
	ids, all := map[string]bool{}, x.r.Spans()
	for _, s := range all {
		ids[s.ID] = true
	}
	return len(ids), len(all) - len(ids)
}

// exact fails if spans are lost that were not counted.
func exact(happens func(*trial)) func(*trial) {
	return func(x *trial) {
		happens(x)
		x.Cleanup(func() {
			if x.unknown != 0 && !x.Failed() {
				x.Errorf("%d spans are neither delivered nor counted", x.unknown)
			}
		})
	}
}

var faults = []struct {
	name    string
	happens func(*trial)
}{
	{"endpoint down at the start", exact(func(x *trial) { x.down().send(500).spooled(); x.up() })},
	{"endpoint down in the middle", exact(downInTheMiddle)},
	{"endpoint flaps every second", exact(flaps)},
	{"endpoint's name does not resolve", exact(func(x *trial) {
		x.set("otlp-endpoint", "http://no-such-host.invalid:4317").down().send(500).spooled()
		x.up().redirect(x.r.GRPCEndpoint())
	})},
	{"endpoint accepts and never answers", exact(func(x *trial) {
		x.set("otlp-endpoint", "http://"+mute(x.T)).set("otlp-timeout", "500ms").down().send(500).spooled()
		x.up().redirect(x.r.GRPCEndpoint())
	})},
	{"endpoint hangs in the middle", exact(hangs)},
	{"endpoint is slow: one batch a second", exact(slow)},
	{"endpoint refuses for good", exact(func(x *trial) {
		x.r.SetAnswer(func(context.Context, otlptest.Request) error { return status.Error(codes.InvalidArgument, "what?") })
		x.up().send(500).until("refusals", func(r report) bool { return r.Spans.RejectedByBackend == 500 })
		x.r.SetAnswer(nil)
		x.send(500)
	})},
	{"endpoint refuses the sender for a while", exact(func(x *trial) {
		x.r.SetAnswer(func(context.Context, otlptest.Request) error { return status.Error(codes.Unauthenticated, "who?") })
		x.up().send(500).spooled()
		x.r.SetAnswer(nil)
		x.send(500)
	})},
	{"endpoint refuses the backlog for good", exact(func(x *trial) {
		x.down().send(500).spooled()
		x.r.SetAnswer(func(context.Context, otlptest.Request) error { return status.Error(codes.InvalidArgument, "what?") })
		x.up().until("refusals", func(r report) bool { return r.Spans.RejectedByBackend == 500 })
	})},
	{"endpoint changes while it is away", exact(func(x *trial) {
		x.set("otlp-endpoint", "http://127.0.0.1:1").down().send(500).spooled()
		x.redirect("off").send(100).until("filtered spans", func(r report) bool { return r.Spans.Filtered == 100 && r.Spans.Spooled == 500 })
		x.sent -= 100 // as asked for
		x.up().redirect(x.r.GRPCEndpoint()).until("the spool to be empty", func(r report) bool { return r.Spans.Exported == 500 })
		x.until("all", func(r report) bool { return r.Spans.Filtered == 100 })
		x.restart()
	})},
	{"SIGKILL, all spooled", exact(func(x *trial) {
		x.down().send(500).spooled()
		x.kill()
		x.up()
	})},
	{"SIGKILL at random instants", killedAtRandom},
	{"spool is full", exact(func(x *trial) {
		x.set("spool-size", "1").set("batch-size", "512").down().large(3000).spooled()
		x.warns("clntrace-spool-size")
		if used := diskUse(x.T, x.spool()); used > 1<<20 {
			x.Errorf("%d bytes on disk, the spool may have 1 MiB", used)
		}
		x.up()
	})},
	{"disk is full", exact(fullDisk)},
	{"spool directory cannot be written", exact(readOnlyDirectory)},
	{"spool directory is a link", exact(func(x *trial) {
		target := lightningdtest.Dir(x.T)
		if err := errors.Join(os.MkdirAll(filepath.Dir(x.spool()), 0o755), os.Symlink(target, x.spool())); err != nil {
			x.Fatal(err)
		}
		x.down().send(500).until("a warning", func(r report) bool { return slices.ContainsFunc(r.Warnings, mentions("symbolic link")) })
		if list, err := os.ReadDir(target); err != nil || len(list) > 0 {
			x.Errorf("there is %v behind the link (%v)", list, err)
		}
		x.up()
	})},
	{"spool directory is removed", exact(func(x *trial) {
		x.down().send(300).spooled()
		if err := os.RemoveAll(x.spool()); err != nil {
			x.Fatal(err)
		}
		x.send(200).spooled()
		x.up()
	})},
	{"spool directory is full of garbage", exact(garbage)},
	{"spool directory is another's", exact(func(x *trial) {
		other := newTrial(x.T)
		other.cfg.Options["clntrace-spool-dir"] = x.spool()
		x.down().send(300).spooled()
		other.down().send(300).until("a warning", func(r report) bool {
			return r.Spans.Pending == 300 && slices.ContainsFunc(r.Warnings, mentions("another clntrace"))
		})
		x.up()
		other.up().finish()
	})},
	{"clock of the senders jumps by a day", exact(func(x *trial) {
		x.down()
		for _, jump := range []time.Duration{0, 24, -24, 0} {
			for _, payload := range recording.Numbered("extend_tip", x.sent+1, 100) {
				span, err := recording.Datagram{Payload: payload}.Span()
				if err != nil {
					x.Fatal(err)
				}
				span.Start = span.Start.Add(jump * time.Hour)
				send(x.T, x.sender, recording.New(span))
				x.sent++
			}
		}
		x.spooled()
		x.up()
	})},
	{"own clock jumps by hours (Go's time.Now shifted)", exact(ownClockJumps)},
	{"shutdown while the endpoint takes spans and does not say so", exact(cancelledAtTheEnd)},
	{"lightningd does not read", exact(func(x *trial) {
		x.up().node.StopReading()
		for range 300 { // each answer has some kilobytes, a pipe holds 64
			if err := x.node.Post("tracestats", object{}); err != nil {
				x.Fatal(err)
			}
		}
		x.r.Stop(x.T)
		x.send(500)
		x.r.Start(x.T)
		x.r.WaitSpans(x.T, 500)
		x.node.ResumeReading()
	})},
}

// redirect sets the endpoint of the running plugin.
func (x *trial) redirect(endpoint string) *trial {
	x.Helper()
	if err := x.node.SetConfig("clntrace-otlp-endpoint", endpoint); err != nil {
		x.Fatal(err)
	}
	x.set("otlp-endpoint", endpoint)
	return x
}

// restart ends the plugin and starts it anew.
func (x *trial) restart() {
	x.Helper()
	x.end()
	x.run()
}

func (x *trial) end() {
	x.Helper()
	endCleanly(x.T, x.node)
	x.node = nil
}

func (x *trial) kill() {
	x.Helper()
	x.node.Signal(syscall.SIGKILL)
	x.node.WaitExit()
	x.node = nil
}

func downInTheMiddle(x *trial) {
	x.up().send(300)
	x.r.WaitSpans(x.T, 300)
	x.down().send(300).spooled()
	x.up().until("the endpoint to be back", func(r report) bool { return r.Status == "ok" })
	x.send(300)
}

func flaps(x *trial) {
	x.up()
	for i := range 4 {
		if i%2 == 0 {
			x.r.Stop(x.T)
		} else {
			x.r.Start(x.T)
		}
		for range 10 {
			x.send(10)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func hangs(x *trial) {
	x.set("otlp-timeout", "500ms").up().send(100)
	x.r.WaitSpans(x.T, 100)
	x.r.SetAnswer(func(ctx context.Context, _ otlptest.Request) error { <-ctx.Done(); return ctx.Err() })
	x.send(400).until("all spans on disk", func(r report) bool { return r.Spans.Spooled == 400 })
	x.r.SetAnswer(nil)
}

func slow(x *trial) {
	var busy atomic.Int32
	x.r.SetAnswer(func(ctx context.Context, _ otlptest.Request) error {
		if n := busy.Add(1); n > 2 {
			x.Errorf("%d requests at once", n)
		}
		defer busy.Add(-1)
		select {
		case <-time.After(time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	x.set("queue-size", "200").up()
	for range 3 {
		x.send(64)
		time.Sleep(200 * time.Millisecond)
	}
}

// The plugin must not grow while spans come for hours and the endpoint is away, nor
// when it delivers them afterwards.
func TestMemoryIsBoundedWithASpool(t *testing.T) {
	x := newTrial(t)
	x.cfg.Plugin = released(t)
	const spoolSize, spans = 24, 40_000 // MiB; more than it holds
	x.set("batch-size", "2048").set("batch-delay", "1s").set("spool-size", fmt.Sprint(spoolSize)).down()
	for range spans / 1000 {
		// On a busy machine decoding may be slower than sending, and the ring must not
		// fill up.
		x.large(1000).until("the spans to be read", func(r report) bool { return r.Datagrams.Received >= uint64(x.sent) })
	}
	r := x.spooled()
	away := peakMemory(t, x.node.PID())
	used := diskUse(t, x.spool())
	x.up().until("an empty spool", func(r report) bool { return r.Spans.Spooled == 0 && r.Spans.Pending == 0 })
	back := peakMemory(t, x.node.PID())
	x.finish()
	t.Logf("%d spans: %d spooled in %d MiB, %d dropped; at the peak %d MiB resident while away, %d MiB afterwards",
		spans, r.Spans.Spooled, used>>20, lost(r), away>>20, back>>20)
	if away > 128<<20 || back > 128<<20 {
		t.Errorf("%d and %d MiB resident at the peak, more than 128", away>>20, back>>20)
	}
	if used > spoolSize<<20 {
		t.Errorf("the spool has %d bytes, more than %d MiB", used, spoolSize)
	}
	if r.Spans.DroppedQueueFull > 0 {
		t.Errorf("%d spans found the queue full", r.Spans.DroppedQueueFull)
	}
}

// mute listens, accepts, and says nothing.
func mute(t *testing.T) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		conns []net.Conn
	)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
		for _, c := range conns {
			c.Close()
		}
	})
	return l.Addr().String()
}

// fullDisk gives the spool a file system of 1 MiB that nobody else can see.
func fullDisk(x *trial) {
	mount := []string{"unshare", "--mount", "--propagation", "private", "sh", "-c"}
	script := `mount -t tmpfs -o size=1m clntrace "$0" && exec "$@"`
	disk := lightningdtest.Dir(x.T)
	if out, err := exec.Command(mount[0], append(slices.Clone(mount[1:]), script, disk, "true")...).CombinedOutput(); err != nil {
		x.Skipf("cannot mount a small file system here: %v: %s", err, out)
	}
	x.cfg.Plugin, x.cfg.Args = mount[0], append(mount[1:], script, disk, clntrace)
	x.set("spool-dir", filepath.Join(disk, "spool")).down().large(2000).until("a warning", func(r report) bool {
		return r.Datagrams.Received == 2000 && r.Spans.Spooled > 0 && slices.ContainsFunc(r.Warnings, mentions("no space left"))
	})
	x.up()
}

func readOnlyDirectory(x *trial) {
	parent := lightningdtest.Dir(x.T)
	if os.Geteuid() == 0 { // nothing is read-only to root
		const nobody = 65534
		x.cfg.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	} else if err := os.Chmod(parent, 0o555); err != nil {
		x.Fatal(err)
	}
	x.set("spool-dir", filepath.Join(parent, "spool")).down().send(500)
	r := x.until("a warning", func(r report) bool {
		return r.Spans.Pending == 500 && slices.ContainsFunc(r.Warnings, mentions(parent))
	})
	if r.Spans.Spooled != 0 {
		x.Errorf("%+v", r.Spans)
	}
	x.up()
}

func garbage(x *trial) {
	if err := os.MkdirAll(x.spool(), 0o700); err != nil {
		x.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 100 {
		b := make([]byte, random.IntN(20_000))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		for _, name := range []string{fmt.Sprintf("%016x.spans", i), fmt.Sprintf("%016x.spans.tmp", i), fmt.Sprintf("foreign%d", i)} {
			if err := os.WriteFile(filepath.Join(x.spool(), name), b, 0o600); err != nil {
				x.Fatal(err)
			}
		}
	}
	x.down().send(500).spooled()
	x.warns(x.spool())
	x.up()
	foreign, err := filepath.Glob(filepath.Join(x.spool(), "foreign*"))
	if len(foreign) != 100 {
		x.Errorf("%d foreign files are left of 100 (%v)", len(foreign), err)
	}
}

func diskUse(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// cancelledAtTheEnd ends the plugin while the endpoint has received a batch of new
// spans and one of the spool, and has not answered. Both must be in the spool
// afterwards, because the plugin cannot know whether they were taken.
func cancelledAtTheEnd(x *trial) {
	const batch = 64
	x.duplicates = 2 * batch
	x.down().send(300).spooled()
	var requests, held atomic.Int32
	x.r.SetAnswer(func(ctx context.Context, _ otlptest.Request) error {
		if requests.Add(1) == 1 {
			return nil // the endpoint is back
		}
		held.Add(1)
		<-ctx.Done()
		return nil // it keeps the spans, but the answer does not arrive
	})
	x.up().until("the endpoint to be back", func(r report) bool { return r.Status == "ok" && r.Spans.Exported > 0 })
	x.send(200)
	before := x.until("two batches to be under way", func(r report) bool { return held.Load() == 2 && r.Datagrams.Accepted == uint64(x.sent) })
	if before.Spans.Exported+before.Spans.Pending+before.Spans.Spooled != uint64(x.sent) {
		x.Errorf("%+v", before.Spans)
	}
	x.end()
	x.r.SetAnswer(nil)
	x.run()
	left := uint64(x.sent) - before.Spans.Exported
	x.until("all that was left", func(r report) bool { return r.Datagrams.Accepted == left && r.Spans.Exported == left })
}

// What a SIGKILL may cost. Spans that were sent earlier than a batch may wait and one
// export may take must be on disk or at the endpoint. One batch may be in both
// places: one of the spool that was answered just before.
const (
	killBatch  = 64                     // spans
	killDelay  = 50 * time.Millisecond  // clntrace-batch-delay
	killJoin   = time.Second            // for what is about the span: a request, a notification
	killExport = 700 * time.Millisecond // for one export, or one write to a busy disk
)

// killing is what has become of the spans when the plugin was killed.
type killing struct {
	*trial
	random *rand.Rand
	safe   map[string]bool // ids that have been on disk or at the endpoint
	copies map[string]int  // at the endpoint, by id
	lost   time.Duration   // the greatest age of a lost span
	twice  int             // the most spans that one kill left in both places
}

// killedAtRandom kills the plugin again and again while spans come and the endpoint
// comes and goes. What is at the endpoint or on the disk is safe, and so must be
// what tracestats has reported as exported or spooled.
func killedAtRandom(x *trial) {
	kills := 50
	if testing.Short() {
		kills = 5
	}
	k := &killing{
		trial: x, random: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)),
		safe: map[string]bool{}, copies: map[string]int{},
	}
	x.duplicates = kills * killBatch
	x.set("batch-delay", killDelay.String()).set("batch-size", fmt.Sprint(killBatch))
	for range kills {
		x.r.Start(x.T)
		onDisk := readSpool(x.T, x.spool())
		before := len(k.safe)
		x.node = nil
		x.run()
		x.answerAtRandom(k.random)
		said := k.sendAndKill()
		if grown := len(k.safe) - before; grown < said-len(onDisk) {
			x.Errorf("tracestats said %d exported or spooled, %d of an earlier run, and there are only %d new ones", said, len(onDisk), grown)
		}
	}
	x.Logf("%d kills: the oldest span lost had been sent %v before, and at most %d spans were left in both places by one kill", kills, k.lost, k.twice)
	x.r.SetAnswer(nil)
	x.node = nil
	left := uint64(len(readSpool(x.T, x.spool()))) // the spool is opened beside the start
	x.up().until("an empty spool", func(r report) bool {
		return r.Datagrams.Accepted >= left && r.Spans.Spooled == 0 && r.Spans.Pending == 0
	})
	k.count()
	for id := range k.safe {
		if k.copies[id] == 0 {
			x.Errorf("span %s was safe and did not arrive", id)
		}
	}
	if len(k.copies) < x.sent/2 {
		x.Errorf("only %d spans arrived of %d", len(k.copies), x.sent)
	}
}

// count counts what is at the endpoint.
func (k *killing) count() {
	k.copies = map[string]int{}
	for _, s := range k.r.Spans() {
		k.copies[s.ID]++
	}
}

// answerAtRandom makes the endpoint be away now and then, and slow, but not so slow
// that spans pile up.
func (x *trial) answerAtRandom(random *rand.Rand) {
	away, takes := random.IntN(3), time.Duration(random.IntN(10))*time.Millisecond
	var requests atomic.Int32
	x.r.SetAnswer(func(context.Context, otlptest.Request) error {
		if away == 2 || away == 1 && requests.Add(1)%3 > 0 {
			return status.Error(codes.Unavailable, "come back later")
		}
		time.Sleep(takes) // even if the client is gone: the endpoint has the spans
		return nil
	})
}

// sendAndKill kills the plugin at some instant while spans come, and checks what
// that has cost. It returns how many spans tracestats last reported as exported or
// spooled.
func (k *killing) sendAndKill() (said int) {
	// At the start spans wait for the node's id, for as long as lightningd takes.
	steady := k.random.IntN(4) > 0
	if steady {
		k.tried++
		k.send1()
		k.until("the node's id", func(r report) bool { return r.Spans.Pending == 0 })
	}
	stop, times := make(chan struct{}), make(chan map[string]time.Time, 1)
	go func() { times <- k.sendUntil(stop) }()
	time.Sleep(time.Duration(k.random.IntN(1500)) * time.Millisecond)
	r := stats(k.T, k.node)
	time.Sleep(time.Duration(k.random.IntN(20_000)) * time.Microsecond)
	killed := time.Now()
	k.kill()
	close(stop)
	sent := <-times
	k.sent += len(sent)
	k.r.Stop(k.T) // waits for the requests under way
	k.settle(sent, killed, steady)
	return int(r.Spans.Exported + r.Spans.Spooled)
}

// send1 sends the span whose turn it is.
func (k *killing) send1() {
	send(k.T, k.sender, recording.Numbered("extend_tip", k.tried, 1)...)
	k.sent++
}

// sendUntil sends some spans every few milliseconds, and returns when each one was
// sent, by id.
func (k *killing) sendUntil(stop <-chan struct{}) map[string]time.Time {
	const some, pause = 8, 5 * time.Millisecond
	sent := map[string]time.Time{}
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		errnos, err := k.sender.Send(recording.Numbered("extend_tip", k.tried+1, some)...)
		if err != nil {
			k.Error(err)
			return sent
		}
		for _, errno := range errnos {
			if k.tried++; errno == 0 { // the others found the queue full, or nobody
				sent[fmt.Sprintf("%016x", k.tried)] = time.Now()
			}
		}
		select {
		case <-ticker.C:
		case <-stop:
			return sent
		}
	}
}

// settle compares what one kill has cost with what it may cost.
func (k *killing) settle(sent map[string]time.Time, killed time.Time, steady bool) {
	before := k.copies
	k.count()
	onDisk, twice := map[string]bool{}, 0
	for _, id := range readSpool(k.T, k.spool()) {
		onDisk[id], k.safe[id] = true, true
		if k.copies[id] > before[id] {
			twice++
		}
	}
	for id := range k.copies {
		k.safe[id] = true
	}
	if k.twice = max(k.twice, twice); twice > killBatch {
		k.Errorf("one kill left %d spans both at the endpoint and on disk, more than a batch of %d", twice, killBatch)
	}
	tooOld, limit := 0, killDelay+killJoin+killExport+4*longestGap(sent)
	for id, at := range sent {
		if age := killed.Sub(at); steady && !k.safe[id] {
			k.lost = max(k.lost, age)
			if age > limit {
				tooOld++
			}
		}
	}
	if tooOld > 0 {
		k.Errorf("%d spans are lost that had been sent more than %v before the kill", tooOld, limit)
	}
}

// longestGap is the longest time between two sends, of which there should be one
// every few milliseconds. If the machine was too busy for the sender, it was too busy
// for the plugin as well, in each of the steps that a span goes through.
func longestGap(sent map[string]time.Time) (gap time.Duration) {
	times := slices.SortedFunc(maps.Values(sent), time.Time.Compare)
	for i := 1; i < len(times); i++ {
		gap = max(gap, times[i].Sub(times[i-1]))
	}
	return gap
}

// readSpool returns the ids of the whole spans in a spool that is not in use. It
// implements the format from its description, independently of the code.
func readSpool(t *testing.T, dir string) (ids []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.spans"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		const header, length = 20, 8
		for len(b) >= header {
			end := header + int(binary.LittleEndian.Uint32(b[length:]))
			if end > len(b) {
				break // cut
			}
			request := ptraceotlp.NewExportRequest()
			if err := request.UnmarshalProto(b[header:end]); err != nil {
				t.Fatal(err)
			}
			for _, rs := range request.Traces().ResourceSpans().All() {
				for _, ss := range rs.ScopeSpans().All() {
					for _, s := range ss.Spans().All() {
						ids = append(ids, s.SpanID().String())
					}
				}
			}
			b = b[end:]
		}
	}
	return ids
}
