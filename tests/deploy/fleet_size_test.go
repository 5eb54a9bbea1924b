//go:build linux

package deploy

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// What BenchmarkFleet does.
const (
	senders = 100                   // nodes with a connection each
	pace    = 20 * time.Millisecond // from one payment to the next, of all nodes
	held    = 10 * time.Second      // the sampling tier's decision_wait
	idle    = 5 * time.Second       // without a payment, before
	clock   = 10 * time.Millisecond // the kernel's unit of CPU time
)

// BenchmarkFleet measures what a payment costs each part of a fleet, with the
// database's and all other spans of a real one, and what a span costs that comes alone,
// as from an idle node. It needs at least 1,000 payments (-benchtime=1000x), twice what
// the sampling tier holds.
func BenchmarkFleet(b *testing.B) {
	payment, err := recording.Load(recording.Xpay)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("keep=10%", func(b *testing.B) { measure(b, 1, "10", payment) })
	b.Run("keep=100%", func(b *testing.B) { measure(b, 1, "100", payment) })
	b.Run("keep=10%,drop=db", func(b *testing.B) { measure(b, 1, "10", payment, "--drop-spans=db_*") })
	b.Run("keep=10%,alone", func(b *testing.B) { measure(b, 20, "10", payment[:1]) })
}

// measure does so with what nodes that have these options make of these datagrams, and
// that each time from so many nodes.
func measure(b *testing.B, each int, keepPercent string, datagrams []recording.Datagram, options ...string) {
	needGateway(b)
	p := startTempo(b)
	if p == nil {
		b.Skip("name a Tempo in TEMPO to run this benchmark")
	}
	var parts [2]*otelcol
	for i := range parts {
		parts[i] = startCollector(b, "fleet/sampling.yaml", "BACKEND="+p.otlp, "DECISION_WAIT="+held.String(), "KEEP_PERCENT="+keepPercent)
	}
	gateway := startCollector(b, "fleet/gateway.yaml", fmt.Sprintf("SAMPLING=[%s, %s]", parts[0].address, parts[1].address))
	measured := []*usage{
		{name: "gateway", pids: []int{gateway.cmd.Process.Pid}},
		{name: "sampling", pids: []int{parts[0].cmd.Process.Pid, parts[1].cmd.Process.Pid}},
		{name: "tempo", pids: []int{p.cmd.Process.Pid}},
	}
	template := exported(b, datagrams, options...)
	payments := make(chan int)
	var nodes sync.WaitGroup
	for i := range senders {
		client := dialOTLP(b, gateway.address)
		nodes.Go(func() {
			for n := range payments {
				request := ptraceotlp.NewExportRequestFromTraces(another(template, i, n))
				wait.For(b, "the gateway to take a payment", func() bool {
					_, err := client.Export(context.Background(), request)
					return err == nil
				})
			}
		})
	}
	wait.For(b, "all to have started", func() bool {
		for _, u := range measured {
			u.begin(b)
		}
		time.Sleep(idle)
		var all time.Duration
		for _, u := range measured {
			u.background, _ = u.since(b)
			all += u.background
		}
		return all < idle/20
	})
	for _, u := range measured {
		u.begin(b)
	}
	began := time.Now()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	n := 0
	for b.Loop() {
		for range each {
			n++
			payments <- n
		}
		<-tick.C
	}
	close(payments)
	nodes.Wait()
	time.Sleep(held + 3*time.Second) // then all has been decided about, and sent
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(template.SpanCount()), "spans/request")
	b.ReportMetric(float64(tracesOf(template)), "traces/request")
	body, _ := new(ptrace.ProtoMarshaler).MarshalTraces(template)
	b.ReportMetric(float64(len(body)), "bytes/request")
	for _, u := range measured {
		cpu, memory := u.since(b)
		cpu -= time.Duration(float64(u.background) * float64(time.Since(began)) / float64(idle))
		b.ReportMetric(float64(cpu.Microseconds())/float64(n), u.name+"-µs/request")
		b.ReportMetric(float64(u.background)/float64(idle)*100, u.name+"-idle-%")
		b.ReportMetric(float64(memory)/(1<<20), u.name+"-MiB")
		b.ReportMetric(float64(u.resident)/(1<<20), u.name+"-idle-MiB")
	}
}

// exported is what clntrace makes of datagrams.
func exported(b *testing.B, datagrams []recording.Datagram, options ...string) ptrace.Traces {
	b.Helper()
	r, all := otlptest.Start(b), ptrace.NewTraces()
	var mu sync.Mutex
	r.SetAnswer(func(_ context.Context, request otlptest.Request) error {
		mu.Lock()
		defer mu.Unlock()
		for _, spans := range request.Traces.ResourceSpans().All() {
			spans.CopyTo(all.ResourceSpans().AppendEmpty())
		}
		return nil
	})
	nodes, stop := startNodes(b, 1, strings.TrimPrefix(r.GRPCEndpoint(), "http://"), options...)
	lightningdtest.SendersTo(b, sender, nodes[0].path).Replay(datagrams)
	stop()
	return all
}

func tracesOf(all ptrace.Traces) int {
	ids := map[string]bool{}
	for _, s := range otlptest.SpansOf(all) {
		ids[s.TraceID] = true
	}
	return len(ids)
}

// another is the same payment as the n-th of all, by another node, and now.
func another(template ptrace.Traces, node, n int) ptrace.Traces {
	traces := ptrace.NewTraces()
	template.CopyTo(traces)
	number := func(id pcommon.TraceID) pcommon.TraceID {
		binary.BigEndian.PutUint64(id[8:], binary.BigEndian.Uint64(id[8:])^uint64(n)<<16)
		return id
	}
	first := traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).StartTimestamp().AsTime()
	shift := pcommon.Timestamp(time.Since(first))
	for _, resource := range traces.ResourceSpans().All() {
		resource.Resource().Attributes().PutStr("service.instance.id", fmt.Sprintf("02%064x", node))
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				span.SetTraceID(number(span.TraceID()))
				span.SetStartTimestamp(span.StartTimestamp() + shift)
				span.SetEndTimestamp(span.EndTimestamp() + shift)
				for _, link := range span.Links().All() {
					link.SetTraceID(number(link.TraceID()))
				}
			}
		}
	}
	return traces
}

// usage is what processes use.
type usage struct {
	name       string
	pids       []int
	cpu        time.Duration // up to begin
	resident   int64         // memory at begin, bytes
	background time.Duration // CPU time while idle
}

func (u *usage) begin(b *testing.B) {
	b.Helper()
	u.cpu, u.resident = u.read(b, "VmRSS:")
}

// since returns the CPU time since begin, and the peak memory in bytes.
func (u *usage) since(b *testing.B) (cpu time.Duration, memory int64) {
	b.Helper()
	cpu, memory = u.read(b, "VmHWM:")
	return cpu - u.cpu, memory
}

// read returns the CPU time used so far, and a line of /proc/PID/status, in bytes.
func (u *usage) read(b *testing.B, line string) (cpu time.Duration, memory int64) {
	b.Helper()
	for _, pid := range u.pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			b.Fatal(err)
		}
		_, text, _ := strings.Cut(string(stat), ") ")
		for _, field := range strings.Fields(text)[11:13] { // utime, stime
			n, _ := strconv.ParseInt(field, 10, 64)
			cpu += time.Duration(n) * clock
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			b.Fatal(err)
		}
		_, text, _ = strings.Cut(string(status), line)
		n, _ := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
		memory += n << 10
	}
	return cpu, memory
}
