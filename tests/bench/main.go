//go:build linux

// Bench compares clntrace, in one run, with other ways to receive a node's spans:
//
//	clntrace   clntrace collect
//	before     the same of another executable, named by -before
//	floor      a Go program that only counts, with recvmmsg: nothing costs less
//	python     a Python program that parses each datagram and counts it
//	collector  a small forwarder that posts batches to the zipkin receiver of an
//	           OpenTelemetry Collector; the two are measured together
//
// clntrace and the Collector export to the same kind of OTLP endpoint, which
// counts what arrives and is not measured. The senders are processes that send
// real datagrams as lightningd does, byte for byte. The receivers take turns, each
// with new processes, so that the machine's noise affects all of them.
//
// Run it in the tests module:
//
//	go run ./bench
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// run does what the command line says and writes the tables to stdout. If something
// fails it writes those of the rounds that were finished.
func run(ctx context.Context, args []string, stdout, progress io.Writer) (err error) {
	cfg, err := parse(args, progress)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench") // a short path: it holds sockets
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{config: cfg, dir: dir, progress: progress}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.namespace.close()
	err = b.rounds(ctx)
	return errors.Join(err, b.results.write(stdout, b))
}

// bench is one comparison.
type bench struct {
	config
	dir       string
	progress  io.Writer
	programs  programs
	peers     []peer
	loads     []workload
	namespace *namespace
	notes     []string // what was left out, and why
	results   results
	runs      int // number of runs so far, which names their directories
}

func (b *bench) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.notes = append(b.notes, text)
	fmt.Fprintln(b.progress, text)
}

// prepare builds the programs that are needed, and finds out what this machine
// allows.
func (b *bench) prepare(ctx context.Context) error {
	if err := b.build(ctx); err != nil {
		return err
	}
	for _, p := range peers {
		if slices.Contains(b.receivers, p.key) {
			b.peers = append(b.peers, p)
		}
	}
	if err := b.plan(); err != nil {
		return err
	}
	b.namespace = openNamespace()
	if limit, err := b.namespace.settable(); err != nil {
		b.note("The queue's limit cannot be set here (%v): measured at %d alone.", err, limit)
		b.queues = []int{limit}
	}
	return nil
}

// rounds runs every receiver once with each workload and limit, round by round.
func (b *bench) rounds(ctx context.Context) error {
	for _, load := range b.loads {
		for _, limit := range b.queues {
			for round := range b.config.rounds {
				for _, p := range b.peers {
					s, err := b.measure(ctx, p, load, limit)
					if err != nil {
						return fmt.Errorf("%s, %s, queue %d, round %d: %w", p.title, load.title, limit, round+1, err)
					}
					fmt.Fprintf(b.progress, "%s, queue %d, round %d of %d: %s: %v\n",
						load.title, limit, round+1, b.config.rounds, p.title, s)
					b.results.add(row{load.title, load.flatOut, limit, p}, round, s)
				}
			}
		}
	}
	return nil
}
