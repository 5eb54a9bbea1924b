//go:build linux

// Sink is an OTLP endpoint that counts the spans that arrive, acknowledges them and
// forgets them. The first line of its output is its port. It answers each line of
// its input with the counts so far, and ends when its input does.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// maxRequest is more than any exporter here puts into one request, in bytes.
const maxRequest = 64 << 20

// counts add up all requests so far.
type counts struct{ spans, synthetic atomic.Int64 }

// export is the TraceService's one method: the request's bytes in, an empty
// response out.
//
//nolint:revive // grpc gives the order of the parameters
func (c *counts) export(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var request []byte
	if err := decode(&request); err != nil {
		return nil, err
	}
	spans, synthetic, err := census(request)
	if err != nil {
		return nil, err
	}
	c.spans.Add(spans)
	c.synthetic.Add(synthetic)
	return []byte{}, nil
}

// raw passes messages on as bytes: unmarshalling them would use the processors on
// which the receivers are measured.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func run() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var c counts
	server := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.MaxRecvMsgSize(maxRequest))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.trace.v1.TraceService",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Export", Handler: c.export}},
	}, &c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	answers := json.NewEncoder(os.Stdout)
	for questions := bufio.NewScanner(os.Stdin); questions.Scan(); {
		if err := answers.Encode(map[string]int64{"spans": c.spans.Load(), "synthetic": c.synthetic.Load()}); err != nil {
			return err
		}
	}
	server.Stop()
	return <-served
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
