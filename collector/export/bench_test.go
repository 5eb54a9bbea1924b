package export

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"clntrace/collector/memory"
	"clntrace/collector/otlp"
	"clntrace/collector/policy"
	"clntrace/collector/stats"
)

// marshalling is a client that does all with a batch but sending it.
type marshalling struct {
	otlptrace.Client
	buffer []byte
}

func (m *marshalling) UploadTraces(_ context.Context, batch []*tracepb.ResourceSpans) (err error) {
	request := &coltracepb.ExportTraceServiceRequest{ResourceSpans: batch}
	size := proto.Size(request)
	m.buffer, err = proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(m.buffer[:0], request)
	if err == nil && len(m.buffer) != size {
		err = io.ErrShortWrite
	}
	return err
}

func (m *marshalling) Stop(context.Context) error { return nil }

// BenchmarkBatch takes a batch of recorded spans from the SDK's queue to the bytes of a
// request.
func BenchmarkBatch(b *testing.B) {
	p := NewPipeline(Options{
		Ledger: new(stats.Ledger), Room: memory.NewRoom(DefaultQueueSize, SpanOverhead), Policy: func() *policy.Policy { return nil },
		Logger: slog.New(slog.DiscardHandler), Version: "bench",
	})
	p.delivery.connect = func(otlp.Config) (*client, error) { return &client{Client: new(marshalling)}, nil }
	if err := p.Start(config(mustParse(b, "http://127.0.0.1:1"))); err != nil {
		b.Fatal(err)
	}
	p.SetNode(Node{Database: "sqlite3"})
	e := p.exporter
	const size = 512
	var batch []sdktrace.ReadOnlySpan
	for _, s := range recorded(b, size) {
		batch = append(batch, newOutgoing(s))
	}
	b.ReportAllocs()
	for b.Loop() {
		n, shown := e.prepare(batch)
		if n != size {
			b.Fatalf("%d spans fit into a request", n)
		}
		e.export(batch, shown)
		e.forget()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/span")
	p.Shutdown(context.Background())
}
