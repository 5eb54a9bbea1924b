package demo

import (
	"context"
	"fmt"
	"net"
	"sync"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// receiver is an OTLP receiver that keeps the spans it gets.
type receiver struct {
	coltracepb.UnimplementedTraceServiceServer
	server *grpc.Server
	addr   string

	mu    sync.Mutex
	spans []span
}

// span is a span as it arrived.
type span struct {
	*tracepb.Span
	process string // service.name
}

func listen() (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the demo's OTLP receiver: %w", err)
	}
	r := &receiver{server: grpc.NewServer(), addr: l.Addr().String()}
	coltracepb.RegisterTraceServiceServer(r.server, r)
	go func() { _ = r.server.Serve(l) }() // until Stop
	return r, nil
}

// Export is the OTLP service.
func (r *receiver) Export(_ context.Context, in *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range in.GetResourceSpans() {
		process := attribute(rs.GetResource().GetAttributes(), "service.name")
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				r.spans = append(r.spans, span{s, process})
			}
		}
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func (r *receiver) received() []span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spans
}

// attribute returns the attribute named key, or "".
func attribute(attributes []*commonpb.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}
