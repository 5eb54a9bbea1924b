//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"clntrace/tests/bench/replay"
	"clntrace/tests/recording"
)

const (
	// startDelay is the time between telling all senders to start and the start.
	startDelay = 50 * time.Millisecond
	// steadyTime is how long the steady workload lasts.
	steadyTime = 5 * time.Second
	// slowSend is the longest that sending a datagram may take on average, so that
	// each run ends.
	slowSend = 50 * time.Microsecond
)

// workload is what is sent.
type workload struct {
	title   string
	plans   []replay.Plan // one for each sender process, without the socket; nil: a real node sends
	flatOut bool          // the senders never pause
	lasts   time.Duration // how long it may take
}

// plan makes the workloads that the configuration asks for.
func (b *bench) plan() error {
	datagrams, err := b.load()
	if err != nil {
		return err
	}
	for _, key := range loadKeys { // in their own order: the node comes last
		if !slices.Contains(b.workloads, key) {
			continue
		}
		switch key {
		case paceLoad:
			b.loads = append(b.loads, paced("recorded pace", datagrams, b.repeat, 1))
		case fasterLoad:
			b.loads = append(b.loads, paced("10 × that pace", datagrams, b.repeat, 10))
		case busiestLoad:
			b.loads = append(b.loads, paced("50 × that pace", datagrams, b.repeat, 50))
		case steadyLoad:
			b.loads = append(b.loads, steady(datagrams, b.rate))
		case fullSpeedLoad:
			b.loads = append(b.loads, fullSpeed(datagrams, b.datagrams, b.senders))
		case nodeLoad:
			b.loads = append(b.loads, workload{title: "a node's start and stop", lasts: time.Minute})
		}
	}
	return nil
}

// load reads the recording, in the order of sending.
func (b *bench) load() ([]recording.Datagram, error) {
	if b.recording == "" {
		return recording.Load(recording.Xpay)
	}
	f, err := os.Open(b.recording)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	datagrams, err := recording.Read(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", b.recording, err)
	}
	if len(datagrams) == 0 {
		return nil, fmt.Errorf("%s holds no datagrams", b.recording)
	}
	slices.SortStableFunc(datagrams, func(x, y recording.Datagram) int { return x.SentAt.Compare(y.SentAt) })
	return datagrams, nil
}

// paced has a sender for each process of the recording, which sends when that
// process did. The recording is repeated, speed times as fast and speed times as
// often, so that all paces last equally long.
func paced(title string, datagrams []recording.Datagram, repeat, speed int) workload {
	repeat *= speed
	first, last := datagrams[0].SentAt, datagrams[len(datagrams)-1].SentAt
	// The pause between two rounds is the average one between two datagrams.
	period := last.Sub(first) + last.Sub(first)/time.Duration(len(datagrams))
	byPID := map[int]*replay.Plan{}
	for _, d := range datagrams {
		p := byPID[d.PID]
		if p == nil {
			p = &replay.Plan{Period: period / time.Duration(speed)}
			byPID[d.PID] = p
		}
		p.Payloads = append(p.Payloads, d.Payload)
		p.Offsets = append(p.Offsets, d.SentAt.Sub(first)/time.Duration(speed))
		p.Count += repeat
	}
	w := workload{title: title, lasts: period / time.Duration(speed) * time.Duration(repeat)}
	for _, p := range byPID {
		w.plans = append(w.plans, *p)
	}
	slices.SortFunc(w.plans, func(x, y replay.Plan) int { return cmp.Compare(y.Count, x.Count) })
	return w
}

// steady has one sender of that many datagrams a second, evenly spread.
func steady(datagrams []recording.Datagram, rate int) workload {
	each := time.Second / time.Duration(rate)
	plan := replay.Plan{Count: int(steadyTime / each), Period: each * time.Duration(len(datagrams))}
	for i, d := range datagrams {
		plan.Payloads = append(plan.Payloads, d.Payload)
		plan.Offsets = append(plan.Offsets, each*time.Duration(i))
	}
	return workload{title: fmt.Sprintf("%d a second, one sender", rate), plans: []replay.Plan{plan}, lasts: steadyTime}
}

// fullSpeed has senders that share the datagrams and never pause.
func fullSpeed(datagrams []recording.Datagram, count, senders int) workload {
	var payloads [][]byte
	for _, d := range datagrams {
		payloads = append(payloads, d.Payload)
	}
	w := workload{title: "full speed", flatOut: true, lasts: time.Duration(count) * slowSend}
	for i := range senders {
		w.plans = append(w.plans, replay.Plan{Payloads: payloads, Count: (count + i) / senders})
	}
	return w
}

// replay has sender processes carry out the plans, starting at the same moment.
func (b *bench) replay(ctx context.Context, plans []replay.Plan, socket string) (total replay.Outcome, err error) {
	var senders []*process
	defer func() {
		for _, s := range senders {
			s.abandon()
		}
	}()
	for _, plan := range plans {
		s, err := b.start(ctx, nil, b.programs.sender)
		if err != nil {
			return total, err
		}
		senders = append(senders, s)
		plan.Socket = socket
		if err := json.NewEncoder(s.stdin).Encode(plan); err != nil {
			return total, fmt.Errorf("telling a sender its plan: %w", err)
		}
	}
	for _, s := range senders {
		if _, err := s.line(ctx); err != nil { // ready
			return total, err
		}
	}
	at := time.Now().Add(startDelay)
	for _, s := range senders {
		if err := json.NewEncoder(s.stdin).Encode(at.UnixNano()); err != nil {
			return total, fmt.Errorf("telling a sender to start: %w", err)
		}
	}
	for _, s := range senders {
		var outcome replay.Outcome
		line, err := s.line(ctx)
		if err != nil {
			return total, err
		}
		if err := json.Unmarshal([]byte(line), &outcome); err != nil {
			return total, fmt.Errorf("reading what came of a sender's plan, %q: %w", line, err)
		}
		total.Add(outcome)
	}
	return total, nil
}
