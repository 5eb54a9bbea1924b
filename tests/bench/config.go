//go:build linux

package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The workloads, in the order in which they run.
const (
	paceLoad      = "pace"
	fasterLoad    = "10x"
	busiestLoad   = "50x"
	steadyLoad    = "steady"
	fullSpeedLoad = "full"
	nodeLoad      = "node"
)

var loadKeys = []string{paceLoad, fasterLoad, busiestLoad, steadyLoad, fullSpeedLoad, nodeLoad}

// config is the command line.
type config struct {
	args      []string
	receivers []string
	workloads []string
	queues    []int // values of net.unix.max_dgram_qlen
	rounds    int
	datagrams int // at full speed
	senders   int // at full speed
	recording string
	repeat    int
	clntrace  string
	before    string
	rate      int // of the steady workload, datagrams a second
}

// parse reads the command line.
func parse(args []string, output io.Writer) (config, error) {
	c := config{args: args}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(output)
	var receivers, workloads, queues string
	flags.StringVar(&receivers, "receivers", strings.Join(ownKeys(), ","), "which `receivers` to compare")
	flags.StringVar(&workloads, "workloads", strings.Join(loadKeys, ","), "which `workloads` to run: payments at their recorded pace, at 10 and 50 times that, datagrams at a steady rate, at full speed, a real node's start and stop")
	flags.StringVar(&queues, "queues", "10,512", "`limits` of the kernel's queue (net.unix.max_dgram_qlen)")
	flags.IntVar(&c.rounds, "rounds", 3, "how often each is measured; the table shows the medians")
	flags.IntVar(&c.datagrams, "datagrams", 2_000_000, "how many to send at full speed")
	flags.IntVar(&c.senders, "senders", 1, "how many processes send them")
	flags.StringVar(&c.recording, "recording", "", "`file` with a recording to send instead of the one payment that is in testdata")
	flags.IntVar(&c.repeat, "repeat", 0, "how often to play the recording at its pace, and so many times as often at so many times that pace (default 60 for the one payment, 1 for a -recording)")
	flags.StringVar(&c.clntrace, "clntrace", "", "`executable` to measure instead of one built from this checkout")
	flags.StringVar(&c.before, "before", "", "`executable` of another clntrace that takes turns with it, as the receiver "+beforeKey)
	flags.IntVar(&c.rate, "rate", 60_000, "how many datagrams a second the one sender of the steady workload sends, for 5 s")
	quick := flags.Bool("quick", false, "a few seconds that show that all works; its numbers mean little. Other flags win")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("got %q, allowed are flags only", flags.Arg(0))
	}
	if *quick {
		given := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		for name, value := range map[string]string{
			"receivers": "clntrace,floor,python", "workloads": "pace,10x,full", "queues": "512",
			"rounds": "1", "datagrams": "20000", "repeat": "3",
		} {
			if !given[name] {
				_ = flags.Set(name, value) // they parse
			}
		}
	}
	if c.repeat == 0 {
		c.repeat = 1
		if c.recording == "" {
			c.repeat = 60
		}
	}
	var err error
	if c.receivers, err = choice("receivers", receivers, peerKeys()); err != nil {
		return c, err
	}
	if c.before != "" && !slices.Contains(c.receivers, beforeKey) {
		c.receivers = append(c.receivers, beforeKey)
	}
	if c.before == "" && slices.Contains(c.receivers, beforeKey) {
		return c, fmt.Errorf("-receivers: %s needs -before", beforeKey)
	}
	if c.workloads, err = choice("workloads", workloads, loadKeys); err != nil {
		return c, err
	}
	if c.queues, err = limits(queues); err != nil {
		return c, err
	}
	for name, n := range map[string]int{"rounds": c.rounds, "datagrams": c.datagrams, "senders": c.senders, "repeat": c.repeat, "rate": c.rate} {
		if n < 1 {
			return c, fmt.Errorf("-%s: got %d, allowed is 1 or more", name, n)
		}
	}
	return c, nil
}

// choice splits a list of keys.
func choice(name, list string, allowed []string) ([]string, error) {
	chosen := strings.Split(list, ",")
	for _, key := range chosen {
		if !slices.Contains(allowed, key) {
			return nil, fmt.Errorf("-%s: got %q, allowed are %s", name, key, strings.Join(allowed, ", "))
		}
	}
	return chosen, nil
}

func limits(list string) ([]int, error) {
	var queues []int
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-queues: got %q, allowed are numbers from 1", text)
		}
		queues = append(queues, n)
	}
	return queues, nil
}
