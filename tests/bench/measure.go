//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"clntrace/tests/bench/replay"
)

const (
	// quiet is how long nothing new may arrive at the sink until a receiver is taken
	// to be done: longer than the delay of a batch, 1 s.
	quiet = 3 * time.Second
	// askInterval is how often the sink is asked.
	askInterval = 100 * time.Millisecond
)

// sample is one run of one receiver.
type sample struct {
	replay.Outcome
	receipt
	delivered int64 // at the sink, or counted
	synthetic int64 // at the sink, above that
	cpu       time.Duration
	peak      int64 // bytes
}

// later is how many datagrams the receiver got and did not deliver.
func (s *sample) later() int64 { return s.received - s.delivered }

// String sums up the sample for the progress output.
func (s *sample) String() string {
	return fmt.Sprintf("%d sent, %d refused by the kernel, %d received, %d delivered (and %d synthetic), CPU %v, peak %d MiB",
		s.Sent, s.Refused, s.received, s.delivered, s.synthetic, s.cpu, s.peak>>20)
}

// measure runs a receiver under a workload, from its start to its end.
func (b *bench) measure(ctx context.Context, p peer, w workload, limit int) (*sample, error) {
	ctx, cancel := context.WithTimeout(ctx, w.lasts+3*patience)
	defer cancel()
	b.runs++
	at := place{dir: filepath.Join(b.dir, strconv.Itoa(b.runs))}
	at.socket = filepath.Join(at.dir, "trace.sock")
	if err := os.Mkdir(at.dir, 0o700); err != nil {
		return nil, err
	}
	var s *sink
	if p.exports {
		var err error
		if s, err = b.startSink(ctx); err != nil {
			return nil, err
		}
		defer s.abandon()
		at.sink = s.address
	}
	processes, err := b.startPeer(ctx, p, at, limit)
	defer func() {
		for _, process := range processes {
			process.abandon()
		}
	}()
	if err != nil {
		return nil, err
	}
	result := new(sample)
	if w.plans == nil {
		err = b.node(ctx, at.dir, at.socket)
	} else {
		result.Outcome, err = b.replay(ctx, w.plans, at.socket)
	}
	if err != nil {
		return nil, err
	}
	return result, result.finish(ctx, p, processes, s)
}

// startPeer starts a receiver with a socket of that limit.
func (b *bench) startPeer(ctx context.Context, p peer, at place, limit int) (processes []*process, err error) {
	err = b.namespace.withLimit(limit, func() error {
		processes, err = p.start(ctx, b, at)
		if err != nil {
			return err
		}
		receiving := processes[len(processes)-1]
		return receiving.await(ctx, "its socket", func() error { return probe(at.socket) })
	})
	return processes, err
}

// probe returns nil if somebody listens at path. It sends nothing.
func probe(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	return os.NewSyscallError("connect", unix.Connect(fd, &unix.SockaddrUnix{Name: path}))
}

// finish waits until the receiver is done, ends it and completes the sample.
func (s *sample) finish(ctx context.Context, p peer, processes []*process, sink *sink) error {
	if sink != nil {
		if err := sink.awaitEnd(ctx, s.Sent); err != nil {
			return err
		}
	}
	// The process with the socket is the last one; what it still has goes to the
	// others, so it ends first.
	for i := len(processes) - 1; i >= 0; i-- {
		output, err := processes[i].stop(ctx)
		if err != nil {
			return err
		}
		if i == len(processes)-1 {
			if s.receipt, err = p.read(output); err != nil {
				return err
			}
		}
		cpu, peak := processes[i].usage()
		s.cpu += cpu
		s.peak += peak
	}
	s.delivered = s.received
	if sink != nil {
		arrived, err := sink.ask(ctx)
		if err != nil {
			return err
		}
		s.delivered, s.synthetic = arrived.Spans-arrived.Synthetic, arrived.Synthetic
	}
	return nil
}

// sink is the OTLP endpoint of a run.
type sink struct {
	*process
	address string
}

// arrivals are what the sink has counted.
type arrivals struct{ Spans, Synthetic int64 }

func (b *bench) startSink(ctx context.Context) (*sink, error) {
	p, err := b.start(ctx, nil, b.programs.sink)
	if err != nil {
		return nil, err
	}
	port, err := p.line(ctx)
	if err != nil {
		p.abandon()
		return nil, err
	}
	return &sink{p, "127.0.0.1:" + port}, nil
}

func (s *sink) ask(ctx context.Context) (a arrivals, err error) {
	if _, err := s.stdin.Write([]byte("\n")); err != nil {
		return a, fmt.Errorf("asking the sink: %w", err)
	}
	line, err := s.line(ctx)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		return a, fmt.Errorf("reading the sink's answer %q: %w", line, err)
	}
	return a, nil
}

// awaitEnd waits until that many spans have arrived, or nothing more arrives. sent is
// 0 for a real node, of which nobody knows.
func (s *sink) awaitEnd(ctx context.Context, sent int64) error {
	var last arrivals
	for since := time.Now(); time.Since(since) < quiet; {
		now, err := s.ask(ctx)
		if err != nil {
			return err
		}
		if now.Spans-now.Synthetic >= sent && sent > 0 {
			return nil
		}
		if now != last {
			last, since = now, time.Now()
		}
		if err := pause(ctx, askInterval); err != nil {
			return err
		}
	}
	return nil
}
