package otlp

import (
	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Signal is what is sent: spans or metrics.
type Signal struct {
	noun     string // for what is sent: "spans"
	pipeline string // what the OpenTelemetry Collector calls it: "traces"
	path     string // where it goes in OTLP over HTTP
	answer   func() proto.Message
	// patience is how many attempts in a row may time out before the connection is
	// taken for dead.
	patience int
}

// The signals.
var (
	Spans = &Signal{noun: "spans", pipeline: "traces", path: tracesPath, patience: 2,
		answer: func() proto.Message { return new(coltracepb.ExportTraceServiceResponse) }}
	// Metrics go every half a minute, so that their first attempt has to be enough.
	Metrics = &Signal{noun: "metrics", pipeline: "metrics", path: metricsPath, patience: 1,
		answer: func() proto.Message { return new(colmetricspb.ExportMetricsServiceResponse) }}
)

// Where spans and metrics go in OTLP over HTTP.
const (
	tracesPath  = "/v1/traces"
	metricsPath = "/v1/metrics"
)

// partialSuccess returns how many spans or data points an answer rejects, and what it
// says about them or remarks; 0 and "" if it takes everything.
func partialSuccess(answer any) (rejected int64, message string) {
	switch a := answer.(type) {
	case *coltracepb.ExportTraceServiceResponse:
		return a.GetPartialSuccess().GetRejectedSpans(), a.GetPartialSuccess().GetErrorMessage()
	case *colmetricspb.ExportMetricsServiceResponse:
		return a.GetPartialSuccess().GetRejectedDataPoints(), a.GetPartialSuccess().GetErrorMessage()
	}
	return 0, ""
}
