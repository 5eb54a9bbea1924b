package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// A test must not set the machine's clock, and Go reads the time without a system
// call that could be intercepted. So clntrace is built with a time package whose Now
// is off by as much as a test says. All of its code, including libraries, sees
// CLOCK_REALTIME jump while CLOCK_MONOTONIC and all timers go on, as when the
// system's clock is set.
const (
	clockVariable = "CLNTRACE_TEST_CLOCK"

	jumpInTime = `package time

import "sync/atomic"

var jumped atomic.Int64

// Jump lets Now be off by so many seconds from here on.
func Jump(seconds int64) { jumped.Store(seconds) }
`
	jumpInMain = `package main

import (
	"os"
	"strconv"
	"time"
)

func init() {
	obey()
	go func() {
		for ; ; time.Sleep(5 * time.Millisecond) {
			obey()
		}
	}()
}

// obey jumps by what is in the file, and removes it to say so.
func obey() {
	name := os.Getenv("` + clockVariable + `")
	order, err := os.ReadFile(name)
	if err != nil {
		return
	}
	if seconds, err := strconv.ParseInt(string(order), 10, 64); err == nil {
		time.Jump(seconds)
		os.Remove(name)
	}
}
`
)

var errUnknownTime = errors.New("time.Now of this Go has another form")

// buildJumping builds a clntrace whose clock can jump, once for all tests.
var buildJumping = sync.OnceValues(func() (program string, err error) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	standard := filepath.Join(strings.TrimSpace(string(goroot)), "src", "time")
	b, err := os.ReadFile(filepath.Join(standard, "time.go"))
	if err != nil {
		return "", err
	}
	const asks = "\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(b), asks) != 1 {
		return "", errUnknownTime
	}
	root, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(sender), "clock")
	overlay := map[string]string{}
	var errs []error
	for i, file := range []struct{ at, text string }{
		{filepath.Join(standard, "time.go"), strings.Replace(string(b), asks, asks+"\tsec += jumped.Load()\n", 1)},
		{filepath.Join(standard, "jump.go"), jumpInTime},
		{filepath.Join(root, "clock.go"), jumpInMain},
	} {
		overlay[file.at] = filepath.Join(dir, fmt.Sprintf("%d.go", i))
		errs = append(errs, os.MkdirAll(dir, 0o755), os.WriteFile(overlay[file.at], []byte(file.text), 0o600))
	}
	replace, err := json.Marshal(map[string]any{"Replace": overlay})
	config := filepath.Join(dir, "overlay.json")
	if err := errors.Join(append(errs, err, os.WriteFile(config, replace, 0o600))...); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "clntrace")
	if out, err := exec.Command("go", "build", "-C", root, "-overlay", config, "-o", program, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building clntrace with a clock that jumps: %w\n%s", err, out)
	}
	return program, nil
})

// clock is the system's clock as a plugin sees it.
type clock struct {
	t    testing.TB
	file string
}

// newClock gives the plugin of cfg a clock of its own.
func newClock(t testing.TB, cfg *lightningdtest.Config) *clock {
	t.Helper()
	program, err := buildJumping()
	if errors.Is(err, errUnknownTime) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{t, filepath.Join(lightningdtest.Dir(t), "clock")}
	cfg.Plugin = program
	cfg.Env = append(cfg.Env, clockVariable+"="+c.file)
	return c
}

// set makes the clock be off by that much, as soon as the plugin looks.
func (c *clock) set(off time.Duration) {
	c.t.Helper()
	whole := c.file + ".new"
	err := os.WriteFile(whole, []byte(strconv.FormatInt(int64(off/time.Second), 10)), 0o644)
	if err = errors.Join(err, os.Rename(whole, c.file)); err != nil {
		c.t.Fatal(err)
	}
}

// jump does what set does, and waits until the running plugin's clock has jumped.
func (c *clock) jump(off time.Duration) {
	c.t.Helper()
	c.set(off)
	wait.For(c.t, "the clock to jump", func() bool {
		_, err := os.Stat(c.file)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// shows fails unless at is what a clock that is off by that much has shown in
// the last minute.
func (c *clock) shows(at time.Time, off time.Duration) {
	c.t.Helper()
	if ago := time.Now().Add(off).Sub(at); ago < -time.Second || ago > time.Minute {
		c.t.Errorf("the plugin's clock shows %v, it should be off by %v", at, off)
	}
}

const hour = time.Hour

// ownClockJumps lets clntrace's clock jump while the endpoint is away, while
// it is not running, and while the endpoint is away again.
func ownClockJumps(x *trial) {
	c := newClock(x.T, &x.cfg)
	x.down()
	for i, off := range []time.Duration{0, 6 * hour, -12 * hour} {
		c.jump(off)
		x.send(100).until("all spans on disk", func(r report) bool { return r.Spans.Spooled == uint64(100*(i+1)) })
		if senders := stats(x.T, x.node).Processes; len(senders) == 1 {
			c.shows(senders[0].LastSeen, off)
		} else {
			x.Errorf("senders are %+v", senders)
		}
	}
	x.kill()
	dateSpool(x.T, x.spool())
	c.set(-24 * hour)
	x.run().send(100).until("all spans on disk", func(r report) bool { return r.Spans.Spooled == 400 })

	x.r.Start(x.T)
	// Waits of hours, as the clock has jumped, would outlast any patience.
	r := x.until("the spool to be empty", func(r report) bool { return r.Spans.Exported == 400 })
	c.shows(*r.Export.LastSuccess, -24*hour)
	ids := make([]string, 0, 400)
	for _, s := range x.r.Spans() {
		ids = append(ids, s.ID)
	}
	if !slices.IsSorted(ids) {
		x.Errorf("the spool was not sent in the order of arrival: %q", ids)
	}

	x.r.Stop(x.T)
	x.send(100).until("new spans on disk", func(r report) bool { return r.Spans.Spooled == 100 })
	for _, off := range []time.Duration{48 * hour, -48 * hour} {
		c.jump(off)
	}
	x.r.Start(x.T)
	x.until("the new spans", func(r report) bool { return r.Spans.Exported == 500 })
}

// dateSpool gives the files of a spool that is not in use modification times that
// contradict their order: the first is the newest, a day in the future.
func dateSpool(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.spans"))
	if err != nil || len(names) < 2 {
		t.Fatalf("the spool has %d files (%v), too few to tell an order", len(names), err)
	}
	for i, name := range names {
		at := time.Now().Add(24*hour - time.Duration(i)*12*hour)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// If the clock is set, everything that waits still waits as long as it should, and
// what is reported about the past stays true.
func TestOwnClockThatJumpsChangesNoWait(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	cfg := config(r, map[string]string{"clntrace-group-requests": "true"})
	c := newClock(t, &cfg)
	n := launch(t, cfg)
	began := time.Now()
	const orphans, requests = 40, 10
	var payloads [][]byte
	for i := range orphans + requests {
		s := recording.Span{
			TraceID: fmt.Sprintf("00000000000000c1%016x", i+1), ID: fmt.Sprintf("%016x", i+1),
			Name: "extend_tip", Start: now(), Duration: time.Microsecond,
		}
		if i < orphans {
			s.ParentID = "00000000000fffff"
		} else {
			s.Name, s.Tags = "jsonrpc", map[string]string{"id": fmt.Sprintf("cli:pay#%d/cln:pay#%d/cln-xpay:getroutes#%d", i, i, i)}
		}
		payloads = append(payloads, recording.New(s))
	}
	send(t, n.Senders(sender).Start("cln-xpay"), payloads...)
	received(t, n, orphans+requests)

	c.jump(6 * hour)
	s := stats(t, n)
	if least := float64(orphans+requests) / 60; s.Spans.RatePerSecond < least {
		t.Errorf("%v spans a second, there were %d in the last minute", s.Spans.RatePerSecond, orphans+requests)
	}
	if up := time.Since(began) + time.Second; s.UptimeSeconds > int64(up.Seconds()) {
		t.Errorf("up for %d s, after %v", s.UptimeSeconds, up)
	}
	if slices.ContainsFunc(s.Warnings, mentions("No span has come")) {
		t.Errorf("warnings %q", s.Warnings)
	}

	s = waitStats(t, n, "the requests' roots", func(s report) bool { return s.Spans.Synthesized > 0 })
	if early := 5*time.Second - time.Since(began); early > 0 || s.Spans.MissingParents > 0 {
		t.Errorf("a root came %v too early, and %d parents are missing", early, s.Spans.MissingParents)
	}
	if s.Export.LastSuccess == nil {
		t.Fatal("nothing was exported")
	}
	waitStats(t, n, "all roots", func(s report) bool { return s.Spans.Synthesized == requests })
	c.shows(*s.Export.LastSuccess, 6*hour)

	c.jump(-6 * hour)
	if testing.Short() {
		return
	}
	waitStatsFor(t, n, time.Minute+wait.Limit, "a parent to be missed", func(s report) bool { return s.Spans.MissingParents > 0 })
	if early := time.Minute - time.Since(began); early > 0 {
		t.Errorf("parents were missed %v too early", early)
	}
	s = waitStats(t, n, "all parents to be missed", func(s report) bool { return s.Spans.MissingParents >= orphans })
	if s.Spans.MissingParents != orphans {
		t.Errorf("%d parents are missing, want %d", s.Spans.MissingParents, orphans)
	}
	endCleanly(t, n)
}
