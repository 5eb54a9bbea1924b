//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	clntraceKey  = "clntrace"
	beforeKey    = "before"
	floorKey     = "floor"
	pythonKey    = "python"
	collectorKey = "collector"
)

// peer is one way to receive spans.
type peer struct {
	key, title string
	exports    bool // to the sink; otherwise it only counts
	// start starts its processes, the one with the socket last.
	start func(ctx context.Context, b *bench, at place) ([]*process, error)
	// read parses what the process with the socket prints at its end.
	read func(output string) (receipt, error)
}

// place is where a peer finds what it needs.
type place struct {
	dir    string // of this run
	socket string // where to receive
	sink   string // OTLP over gRPC, host:port; empty unless it exports
}

// receipt is what a peer itself reports.
type receipt struct {
	received int64
	losses   map[string]int64 // what it lost, or could not read, by its own name for it
}

var peers = []peer{
	{clntraceKey, "clntrace", true, startClntrace, readTable},
	{beforeKey, "clntrace before", true, startBefore, readTable},
	{floorKey, "Go, only counts", false, startFloor, readCounts},
	{pythonKey, "Python, parses and counts", false, startPython, readCounts},
	{collectorKey, "forwarder and OpenTelemetry Collector", true, startCollector, readCounts},
}

func peerKeys() (keys []string) {
	for _, p := range peers {
		keys = append(keys, p.key)
	}
	return keys
}

// ownKeys are the peers that need no executable of somebody's own.
func ownKeys() []string {
	return slices.DeleteFunc(peerKeys(), func(key string) bool { return key == beforeKey })
}

func startClntrace(ctx context.Context, b *bench, at place) ([]*process, error) {
	return b.collect(ctx, b.programs.clntrace, at)
}

func startBefore(ctx context.Context, b *bench, at place) ([]*process, error) {
	return b.collect(ctx, b.programs.before, at)
}

func (b *bench) collect(ctx context.Context, clntrace string, at place) ([]*process, error) {
	return alone(b.start(ctx, nil, clntrace, "collect", "--socket", at.socket,
		"--otlp-endpoint", "http://"+at.sink, "--spool-dir", filepath.Join(at.dir, "spool")))
}

func startFloor(ctx context.Context, b *bench, at place) ([]*process, error) {
	return alone(b.start(ctx, nil, b.programs.floor, at.socket))
}

func startPython(ctx context.Context, b *bench, at place) ([]*process, error) {
	return alone(b.start(ctx, nil, b.programs.python, b.programs.reader, at.socket))
}

func alone(p *process, err error) ([]*process, error) {
	if err != nil {
		return nil, err
	}
	return []*process{p}, nil
}

// otelcolConfig leaves the exporter its own queue, retries and so on. It does
// not compress, because clntrace does not, unless it is asked to.
const otelcolConfig = `
receivers:
  zipkin:
    endpoint: %s
exporters:
  otlp_grpc:
    endpoint: %s
    compression: none
    tls:
      insecure: true
service:
  telemetry:
    metrics:
      level: none
    logs:
      level: error
  pipelines:
    traces:
      receivers: [zipkin]
      exporters: [otlp_grpc]
`

func startCollector(ctx context.Context, b *bench, at place) ([]*process, error) {
	// A port that is free now. In a namespace of our own nobody else can take it, and
	// elsewhere that is unlikely.
	address, err := b.freeAddress()
	if err != nil {
		return nil, err
	}
	otelcol, err := b.start(ctx, nil, b.programs.otelcol, "--config", "yaml:"+fmt.Sprintf(otelcolConfig, address, at.sink))
	if err != nil {
		return nil, err
	}
	if err := otelcol.await(ctx, "its port", func() error { return b.namespace.do(func() error { return dial(address) }) }); err != nil {
		otelcol.abandon()
		return nil, err
	}
	forwarder, err := b.start(ctx, nil, b.programs.forwarder, at.socket, address)
	if err != nil {
		otelcol.abandon()
		return nil, err
	}
	return []*process{otelcol, forwarder}, nil
}

// dial returns nil if somebody listens at address.
func dial(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (b *bench) freeAddress() (address string, err error) {
	err = b.namespace.do(func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		address = l.Addr().String()
		return l.Close()
	})
	return address, err
}

// readCounts reads the JSON that our own programs write.
func readCounts(output string) (receipt, error) {
	r := receipt{losses: make(map[string]int64)}
	if err := json.Unmarshal([]byte(output), &r.losses); err != nil {
		return r, fmt.Errorf("reading the counts %q: %w", output, err)
	}
	r.received = r.losses["received"]
	delete(r.losses, "received")
	return r, nil
}

var (
	receivedCounter = regexp.MustCompile(`; (\d+) datagrams, `) // warnings name other numbers of datagrams
	lossCounters    = regexp.MustCompile(`(\d+) (refused|malformed|pending|spooled|dropped \([a-z ]+\)|rejected by the backend)`)
)

// readTable reads the statistics that clntrace prints.
func readTable(output string) (receipt, error) {
	text := strings.Join(strings.Fields(output), " ") // the table wraps its lines
	match := receivedCounter.FindStringSubmatch(text)
	if match == nil {
		return receipt{}, fmt.Errorf("reading the statistics: no count of datagrams in\n%s", output)
	}
	r := receipt{losses: make(map[string]int64)}
	r.received, _ = strconv.ParseInt(match[1], 10, 64) // digits
	for _, match := range lossCounters.FindAllStringSubmatch(text, -1) {
		r.losses[match[2]], _ = strconv.ParseInt(match[1], 10, 64)
	}
	return r, nil
}
