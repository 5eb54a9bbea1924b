package otlptest

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Unix(1_800_000_000, 123_000).UTC()

// oneSpan is a request with a span that has all that Span can hold.
func oneSpan() ptraceotlp.ExportRequest {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", "cln-xpay")
	ss := rs.ScopeSpans().AppendEmpty()
	ss.SetSchemaUrl("https://example.org/schema")
	ss.Scope().SetName("scope")
	ss.Scope().SetVersion("v1")
	s := ss.Spans().AppendEmpty()
	s.SetTraceID([16]byte{15: 1})
	s.SetSpanID([8]byte{7: 2})
	s.SetParentSpanID([8]byte{7: 3})
	s.SetName("jsonrpc")
	s.SetKind(ptrace.SpanKindClient)
	s.SetStartTimestamp(1_800_000_000_000_123_000)
	s.SetEndTimestamp(1_800_000_000_000_125_000)
	s.Status().SetCode(ptrace.StatusCodeError)
	s.Attributes().PutInt("n", 7)
	l := s.Links().AppendEmpty()
	l.SetTraceID([16]byte{15: 4})
	l.SetSpanID([8]byte{7: 5})
	l.Attributes().PutStr("k", "v")
	return ptraceotlp.NewExportRequestFromTraces(td)
}

var oneSpanReceived = Span{
	TraceID: "00000000000000000000000000000001", ID: "0000000000000002", ParentID: "0000000000000003",
	Name: "jsonrpc", Kind: "Client", Start: start, Duration: 2 * time.Microsecond, Status: "Error",
	Attributes: map[string]any{"n": int64(7)},
	Links: []Link{{
		TraceID: "00000000000000000000000000000004", SpanID: "0000000000000005", Attributes: map[string]any{"k": "v"},
	}},
	Resource: map[string]any{"service.name": "cln-xpay"},
	Scope:    "scope", ScopeVersion: "v1", SchemaURL: "https://example.org/schema",
}

func export(t *testing.T, ctx context.Context, endpoint string) (ptraceotlp.ExportResponse, error) {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(endpoint, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return ptraceotlp.NewGRPCClient(conn).Export(ctx, oneSpan())
}

func TestSpanArrivesWhole(t *testing.T) {
	t.Run("grpc", func(t *testing.T) {
		r := Start(t)
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-token", "secret")
		if _, err := export(t, ctx, r.GRPCEndpoint()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Span{oneSpanReceived}, r.WaitSpans(t, 1)); diff != "" {
			t.Error(diff)
		}
		if got := r.WaitRequests(t, 1)[0].Metadata.Get("x-token"); !cmp.Equal(got, []string{"secret"}) {
			t.Errorf("header x-token = %q", got)
		}
	})
	t.Run("http", func(t *testing.T) {
		r := Start(t)
		body, err := oneSpan().MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.Post(r.HTTPEndpoint()+"/v1/traces", "application/x-protobuf", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatal(response.Status)
		}
		if diff := cmp.Diff([]Span{oneSpanReceived}, r.WaitSpans(t, 1)); diff != "" {
			t.Error(diff)
		}
		http.DefaultClient.CloseIdleConnections()
	})
}

func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer Answer
		want   codes.Code
	}{
		{"any error", func(context.Context, Request) error { return errors.New("busy") }, codes.Unavailable},
		{"permanent", func(context.Context, Request) error { return consumererror.NewPermanent(errors.New("no")) }, codes.Internal},
		{"status", func(context.Context, Request) error { return status.Error(codes.Unauthenticated, "who?") }, codes.Unauthenticated},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Start(t)
			r.SetAnswer(tc.answer)
			if _, err := export(t, t.Context(), r.GRPCEndpoint()); status.Code(err) != tc.want {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if n := len(r.Spans()); n != 0 {
				t.Errorf("%d spans of a refused request were kept", n)
			}
		})
	}
}

func TestStopReleasesAnAnswerThatHangs(t *testing.T) {
	r := Start(t)
	r.SetAnswer(func(ctx context.Context, _ Request) error { <-ctx.Done(); return ctx.Err() })
	failed := make(chan error, 1)
	go func() {
		_, err := export(t, t.Context(), r.GRPCEndpoint())
		failed <- err
	}()
	r.WaitRequests(t, 1)
	r.Stop(t)
	if err := <-failed; err == nil {
		t.Error("the request succeeded")
	}
}

func TestStopAndStartKeepAddressAndSpans(t *testing.T) {
	r := Reserve(t)
	if _, err := export(t, t.Context(), r.GRPCEndpoint()); status.Code(err) != codes.Unavailable {
		t.Fatalf("before the start: %v", err)
	}
	for range 2 {
		r.Start(t)
		if _, err := export(t, t.Context(), r.GRPCEndpoint()); err != nil {
			t.Fatal(err)
		}
		r.Stop(t)
	}
	if n := len(r.Spans()); n != 2 {
		t.Errorf("%d spans, want 2", n)
	}
}

func TestPartialSuccess(t *testing.T) {
	response, err := export(t, t.Context(), StartPartial(t, "too old"))
	if err != nil {
		t.Fatal(err)
	}
	if got := response.PartialSuccess(); got.RejectedSpans() != 1 || got.ErrorMessage() != "too old" {
		t.Errorf("rejected %d: %q", got.RejectedSpans(), got.ErrorMessage())
	}
}
