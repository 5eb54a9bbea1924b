package otlptest

import (
	"context"
	"net"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
)

// StartPartial starts a gRPC endpoint that answers every request with success,
// save that it rejects one span of each, for the given reason. The Collector's
// receiver never does that, other backends do. It returns the endpoint's URL.
func StartPartial(t testing.TB, reason string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	ptraceotlp.RegisterGRPCServer(server, &partial{reason: reason})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serving OTLP: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

type partial struct {
	ptraceotlp.UnimplementedGRPCServer
	reason string
}

func (p *partial) Export(context.Context, ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	response := ptraceotlp.NewExportResponse()
	response.PartialSuccess().SetRejectedSpans(1)
	response.PartialSuccess().SetErrorMessage(p.reason)
	return response, nil
}
