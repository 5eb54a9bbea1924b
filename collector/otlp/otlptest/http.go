package otlptest

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"

	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// ServeHTTP takes a request of OTLP over HTTP.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var in proto.Message = new(coltracepb.ExportTraceServiceRequest)
	if req.URL.Path == "/v1/metrics" {
		in = new(colmetricspb.ExportMetricsServiceRequest)
	} else if req.URL.Path != "/v1/traces" {
		http.NotFound(w, req)
		return
	}
	body, err := read(req)
	if err != nil || proto.Unmarshal(body, in) != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	a, err := r.take(req.Context(), in, req.Header)
	if err != nil {
		return // the client has given up
	}
	if a.Header != "" {
		name, value, _ := strings.Cut(a.Header, ": ")
		w.Header().Set(name, value)
	}
	if a.Status != 0 || a.Header != "" {
		w.WriteHeader(max(a.Status, http.StatusOK))
		_, _ = w.Write(a.Body) // fails only if the client has gone
		return
	}
	var answer proto.Message = a.traces()
	if req.URL.Path == "/v1/metrics" {
		answer = a.metrics()
	}
	b, _ := proto.Marshal(answer) // has no text that could be invalid
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(b) // as above
}

func read(req *http.Request) ([]byte, error) {
	if req.Header.Get("Content-Encoding") != "gzip" {
		return io.ReadAll(req.Body)
	}
	z, err := gzip.NewReader(req.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
