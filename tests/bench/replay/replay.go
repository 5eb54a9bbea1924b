//go:build linux

// Package replay sends recorded datagrams at a given pace and measures what
// that costs the sender.
package replay

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"clntrace/tests/lightningdtest/trace"
)

// Plan is what one sender process sends.
type Plan struct {
	Socket   string
	Payloads [][]byte
	// Count is how many datagrams to send; after the last payload follows the first.
	Count int
	// Offsets say when each payload is sent, after the start of its round. Without
	// them payloads are sent as fast as possible.
	Offsets []time.Duration
	// Period is the time between the starts of two rounds of payloads.
	Period time.Duration
}

// Outcome is what became of a Plan's datagrams.
type Outcome struct {
	Sent    int64 // the kernel took them
	Refused int64 // EAGAIN: the queue was full, or the sender's own buffer
	Failed  int64 // any other error
	// Wall and CPU are the time that the sender spent sending; pauses do not count.
	Wall, CPU time.Duration
}

// Add adds what became of another plan.
func (o *Outcome) Add(other Outcome) {
	o.Sent += other.Sent
	o.Refused += other.Refused
	o.Failed += other.Failed
	o.Wall += other.Wall
	o.CPU += other.CPU
}

// Tried is how many datagrams there were.
func (o *Outcome) Tried() int64 { return o.Sent + o.Refused + o.Failed }

// count counts what sendto said, which lightningd never looks at.
func (o *Outcome) count(errno syscall.Errno) {
	switch errno {
	case 0:
		o.Sent++
	case syscall.EAGAIN:
		o.Refused++
	default:
		o.Failed++
	}
}

// Serve reads a Plan, writes that it is ready, reads when to start (ns since the Unix
// epoch), carries the plan out and writes its Outcome. All of these are JSON values.
func Serve(r io.Reader, w io.Writer) error {
	debug.SetGCPercent(-1) // nothing is allocated while it sends
	orders, answers := json.NewDecoder(r), json.NewEncoder(w)
	var plan Plan
	if err := orders.Decode(&plan); err != nil {
		return fmt.Errorf("reading the plan: %w", err)
	}
	e, err := trace.Open(plan.Socket)
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	if err := answers.Encode("ready"); err != nil {
		return err
	}
	var start int64
	if err := orders.Decode(&start); err != nil {
		return fmt.Errorf("reading the start: %w", err)
	}
	now := time.Now()
	return answers.Encode(plan.play(e, now.Add(time.Unix(0, start).Sub(now)))) // on the monotonic clock
}

// play sends the datagrams. Those that are late are sent at once.
func (p *Plan) play(e *trace.Emitter, start time.Time) (o Outcome) {
	runtime.LockOSThread() // so that the thread's clock is ours
	defer runtime.UnlockOSThread()
	// The kernel rounds a sleep up by 50 µs unless it is told not to.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	sleep(start)
	watch := begin()
	for n := range p.Count {
		i := n % len(p.Payloads)
		if p.Offsets != nil {
			due := start.Add(time.Duration(n/len(p.Payloads))*p.Period + p.Offsets[i])
			if time.Until(due) > 0 {
				watch.stop(&o)
				sleep(due)
				watch = begin()
			}
		}
		o.count(e.Send(p.Payloads[i]))
	}
	watch.stop(&o)
	return o
}

// sleep is more precise than time.Sleep, which wakes an idle program only at the next
// whole millisecond.
func sleep(until time.Time) {
	for d := time.Until(until); d > 0; d = time.Until(until) {
		interval := unix.NsecToTimespec(d.Nanoseconds())
		_ = unix.Nanosleep(&interval, nil) // interrupted or not
	}
}

// stopwatch measures the time and the CPU time of the thread.
type stopwatch struct {
	wall time.Time
	cpu  time.Duration
}

func begin() stopwatch {
	cpu := threadCPU()
	return stopwatch{time.Now(), cpu}
}

func (s stopwatch) stop(o *Outcome) {
	o.Wall += time.Since(s.wall)
	o.CPU += threadCPU() - s.cpu
}

func threadCPU() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // it exists on every Linux
	return time.Duration(t.Nano())
}
