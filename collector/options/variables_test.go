package options

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"clntrace/collector/otlp"
)

func TestVariables(t *testing.T) {
	for _, tt := range []struct {
		name       string
		env, given map[string]string
		holds      func(Config) bool
	}{
		{"timeout in milliseconds", map[string]string{"OTEL_EXPORTER_OTLP_TIMEOUT": "2500"}, nil,
			func(c Config) bool { return c.Timeout == 2500*time.Millisecond }},
		{"timeout of traces", map[string]string{"OTEL_EXPORTER_OTLP_TIMEOUT": "2500", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "1"}, nil,
			func(c Config) bool { return c.Timeout == time.Millisecond }},
		{"compression", map[string]string{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, nil,
			func(c Config) bool { return c.Compression == otlp.CompressionGzip }},
		{"in any case", map[string]string{"OTEL_EXPORTER_OTLP_COMPRESSION": "GZIP", "OTEL_EXPORTER_OTLP_PROTOCOL": " HTTP/Protobuf ", "OTEL_TRACES_SAMPLER": "ParentBased_TraceIDRatio", "OTEL_TRACES_SAMPLER_ARG": "0.25", "OTEL_METRICS_EXPORTER": "OTLP, Prometheus"}, nil,
			func(c Config) bool {
				return c.Compression == otlp.CompressionGzip && c.Protocol == otlp.ProtocolHTTP && c.SampleRatio == 0.25 && c.Metrics && c.PrometheusListen != ""
			}},
		{"no traces in any case", map[string]string{"OTEL_TRACES_EXPORTER": "None"}, nil, func(c Config) bool { return c.Endpoint.Off() }},
		{"spaces alone are nothing", map[string]string{"OTEL_SERVICE_NAME": " ", "OTEL_EXPORTER_OTLP_ENDPOINT": " "}, nil,
			func(c Config) bool {
				return c.ServiceName == "" && c.Endpoint == otlp.DefaultEndpoint(otlp.ProtocolGRPC)
			}},
		{"service name", map[string]string{"OTEL_SERVICE_NAME": "node"}, nil, func(c Config) bool { return c.ServiceName == "node" }},
		{"keys are percent-encoded too", map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "a%20b%3D=c%2Cd"}, nil,
			func(c Config) bool { return maps.Equal(c.ResourceAttributes, map[string]string{"a b=": "c,d"}) }},
		{"batches", map[string]string{"OTEL_BSP_SCHEDULE_DELAY": "5000", "OTEL_BSP_MAX_QUEUE_SIZE": "1000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "512"}, nil,
			func(c Config) bool { return c.BatchDelay == 5*time.Second && c.QueueSize == 1000 && c.BatchSize == 512 }},
		{"an option beats them", map[string]string{"OTEL_BSP_MAX_QUEUE_SIZE": "1000", "OTEL_SDK_DISABLED": "true"},
			map[string]string{"queue-size": "5000", "otlp-endpoint": "http://h:1"},
			func(c Config) bool { return c.QueueSize == 5000 && c.Endpoint.String() == "http://h:1" }},
		{"disabled", map[string]string{"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1"}, nil,
			func(c Config) bool { return c.Endpoint.Off() }},
		{"not disabled", map[string]string{"OTEL_SDK_DISABLED": "false"}, nil, func(c Config) bool { return !c.Endpoint.Off() }},
		{"no traces", map[string]string{"OTEL_TRACES_EXPORTER": "none"}, nil, func(c Config) bool { return c.Endpoint.Off() }},
		{"no traces, but metrics", map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1"}, nil,
			func(c Config) bool { return c.Endpoint.String() == "http://h:1" && c.SampleRatio == 0 && c.Metrics }},
		{"traces", map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, nil, func(c Config) bool { return !c.Endpoint.Off() && c.SampleRatio == 1 }},
		{"metrics among others", map[string]string{"OTEL_METRICS_EXPORTER": "prometheus, otlp"}, nil, func(c Config) bool { return c.Metrics }},
		{"no metrics", map[string]string{"OTEL_METRICS_EXPORTER": "none"}, nil, func(c Config) bool { return !c.Metrics }},
		{"scrape", map[string]string{"OTEL_METRICS_EXPORTER": "prometheus"}, nil,
			func(c Config) bool { return c.PrometheusListen == "localhost:9464" && !c.Metrics }},
		{"scrape elsewhere", map[string]string{"OTEL_METRICS_EXPORTER": "otlp,prometheus", "OTEL_EXPORTER_PROMETHEUS_HOST": "::1", "OTEL_EXPORTER_PROMETHEUS_PORT": "1"}, nil,
			func(c Config) bool { return c.PrometheusListen == "[::1]:1" && c.Metrics }},
		{"no scrape", map[string]string{"OTEL_EXPORTER_PROMETHEUS_PORT": "1"}, nil,
			func(c Config) bool { return c.PrometheusListen == "" }},
		{"sampler with a ratio", map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, nil,
			func(c Config) bool { return c.SampleRatio == 0.25 }},
		{"sampler without", map[string]string{"OTEL_TRACES_SAMPLER": "always_off", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, nil,
			func(c Config) bool { return c.SampleRatio == 0 }},
		{"sampler of another kind", map[string]string{"OTEL_TRACES_SAMPLER": "jaeger_remote", "OTEL_TRACES_SAMPLER_ARG": "endpoint=x"}, nil,
			func(c Config) bool { return c.SampleRatio == 1 }},
		{"insecure", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "h:1", "OTEL_EXPORTER_OTLP_INSECURE": "true"}, nil,
			func(c Config) bool { return c.Endpoint.String() == "http://h:1" && c.Endpoint.PlaintextRemote() }},
		{"secure on this host", map[string]string{"OTEL_EXPORTER_OTLP_INSECURE": "true", "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "false"},
			map[string]string{"otlp-endpoint": "localhost:1"},
			func(c Config) bool { return c.Endpoint.String() == "https://localhost:1" }},
		{"a scheme counts more", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://h:1", "OTEL_EXPORTER_OTLP_INSECURE": "true"}, nil,
			func(c Config) bool { return c.Endpoint.String() == "https://h:1" }},
		{"a unix socket has no TLS", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "unix:/s", "OTEL_EXPORTER_OTLP_INSECURE": "false"}, nil,
			func(c Config) bool { return c.Endpoint.String() == "unix:/s" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, faults := with(tt.given, tt.env).Resolve()
			if len(faults) > 0 || !tt.holds(cfg) {
				t.Errorf("got %+v, faults %q", cfg, texts(faults))
			}
		})
	}
}

func TestVariablesThatCannotBeUsed(t *testing.T) {
	for name, tt := range map[string]struct{ value, want string }{
		"OTEL_EXPORTER_OTLP_TIMEOUT":  {"10s", "OTEL_EXPORTER_OTLP_TIMEOUT: got '10s', must be a whole number of milliseconds"},
		"OTEL_BSP_SCHEDULE_DELAY":     {"-1", "OTEL_BSP_SCHEDULE_DELAY: got '-1', must be a whole number of milliseconds"},
		"OTEL_BSP_MAX_QUEUE_SIZE":     {"0", "OTEL_BSP_MAX_QUEUE_SIZE: got '0', "},
		"OTEL_RESOURCE_ATTRIBUTES":    {"a%zz=b", "OTEL_RESOURCE_ATTRIBUTES: got 'a%zz=b', entry 1 has a %"},
		"OTEL_EXPORTER_OTLP_ENDPOINT": {"ftp://x", "OTEL_EXPORTER_OTLP_ENDPOINT: got 'ftp://x', "},
	} {
		_, faults := with(nil, map[string]string{name: tt.value}).Resolve()
		if len(faults) != 1 || !strings.HasPrefix(faults[0].Text, tt.want) {
			t.Errorf("got %q, want %q", texts(faults), tt.want)
		}
	}
	_, faults := with(nil, map[string]string{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"}).Resolve()
	if len(faults) != 1 || !strings.HasPrefix(faults[0].Text, "OTEL_TRACES_SAMPLER_ARG: got 'half', ") {
		t.Errorf("got %q", texts(faults))
	}
}

// specified are all variables of the OpenTelemetry specification 1.57, general, batch
// span processor, limits, exporters and metrics.
var specified = strings.Fields(`
OTEL_SDK_DISABLED OTEL_ENTITIES OTEL_RESOURCE_ATTRIBUTES OTEL_SERVICE_NAME OTEL_LOG_LEVEL OTEL_PROPAGATORS
OTEL_TRACES_SAMPLER OTEL_TRACES_SAMPLER_ARG OTEL_CONFIG_FILE
OTEL_BSP_SCHEDULE_DELAY OTEL_BSP_EXPORT_TIMEOUT OTEL_BSP_MAX_QUEUE_SIZE OTEL_BSP_MAX_EXPORT_BATCH_SIZE
OTEL_BLRP_SCHEDULE_DELAY OTEL_BLRP_EXPORT_TIMEOUT OTEL_BLRP_MAX_QUEUE_SIZE OTEL_BLRP_MAX_EXPORT_BATCH_SIZE
OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT OTEL_ATTRIBUTE_COUNT_LIMIT
OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT OTEL_SPAN_EVENT_COUNT_LIMIT OTEL_SPAN_LINK_COUNT_LIMIT
OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT OTEL_LINK_ATTRIBUTE_COUNT_LIMIT
OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT
OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_INSECURE OTEL_EXPORTER_OTLP_CERTIFICATE OTEL_EXPORTER_OTLP_CLIENT_KEY
OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_COMPRESSION OTEL_EXPORTER_OTLP_TIMEOUT OTEL_EXPORTER_OTLP_PROTOCOL
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT OTEL_EXPORTER_OTLP_TRACES_INSECURE OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY
OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE OTEL_EXPORTER_OTLP_TRACES_HEADERS OTEL_EXPORTER_OTLP_TRACES_COMPRESSION OTEL_EXPORTER_OTLP_TRACES_TIMEOUT OTEL_EXPORTER_OTLP_TRACES_PROTOCOL
OTEL_EXPORTER_OTLP_METRICS_ENDPOINT OTEL_EXPORTER_OTLP_METRICS_INSECURE OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY
OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE OTEL_EXPORTER_OTLP_METRICS_HEADERS OTEL_EXPORTER_OTLP_METRICS_COMPRESSION OTEL_EXPORTER_OTLP_METRICS_TIMEOUT OTEL_EXPORTER_OTLP_METRICS_PROTOCOL
OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION
OTEL_EXPORTER_OTLP_LOGS_ENDPOINT OTEL_EXPORTER_OTLP_LOGS_TIMEOUT OTEL_EXPORTER_OTLP_SPAN_INSECURE
OTEL_EXPORTER_ZIPKIN_ENDPOINT OTEL_EXPORTER_ZIPKIN_TIMEOUT OTEL_EXPORTER_PROMETHEUS_HOST OTEL_EXPORTER_PROMETHEUS_PORT
OTEL_TRACES_EXPORTER OTEL_METRICS_EXPORTER OTEL_LOGS_EXPORTER
OTEL_METRICS_EXEMPLAR_FILTER OTEL_METRIC_EXPORT_INTERVAL OTEL_METRIC_EXPORT_TIMEOUT`)

// Whoever sets a standard variable sees that it works, or reads why it does not.
func TestEveryStandardVariableIsHonouredOrNamed(t *testing.T) {
	var heard []string
	for _, v := range allVariables() {
		heard = append(heard, v.name)
	}
	for _, name := range specified {
		line := Deaf([]string{name + "=x"})
		switch {
		case strings.Contains(line, unknown):
			t.Errorf("%s is not known", name)
		case !slices.Contains(heard, name) && !strings.Contains(line, name):
			t.Errorf("%s is neither honoured nor named: %q", name, line)
		}
	}
}

func TestDeaf(t *testing.T) {
	for _, tt := range []struct{ environ, want string }{
		{"PATH=/bin HOME=/", ""},
		{"OTEL_SERVICE_NAME=x OTEL_TRACES_EXPORTER=otlp OTEL_METRICS_EXPORTER=none OTEL_SDK_DISABLED=false OTEL_PROPAGATORS=", ""},
		{"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=0.5", ""},
		{"OTEL_PROPAGATORS=b3 OTEL_BLRP_MAX_QUEUE_SIZE=1 OTEL_LOGS_EXPORTER=otlp",
			"OTEL_BLRP_MAX_QUEUE_SIZE, OTEL_LOGS_EXPORTER (clntrace sends no logs), OTEL_PROPAGATORS (lightningd makes the ids)"},
		{"OTEL_TRACES_EXPORTER=otlp,console", "OTEL_TRACES_EXPORTER (spans go over OTLP only, metrics over OTLP and to Prometheus)"},
		{"OTEL_TRACES_SAMPLER=xray", "OTEL_TRACES_SAMPLER (only always_on, always_off and traceidratio are known)"},
		{"OTEL_METRICS_EXPORTER=prometheus OTEL_EXPORTER_PROMETHEUS_HOST=::1", ""},
		{"OTEL_EXPORTER_PROMETHEUS_HOST=::1", "OTEL_EXPORTER_PROMETHEUS_HOST (OTEL_METRICS_EXPORTER does not list prometheus)"},
		{"OTEL_TRACES_SAMPLER_ARG=0.5", "OTEL_TRACES_SAMPLER_ARG (the sampler takes none)"},
		{"OTEL_TRACES_EXPORTER=OTLP OTEL_METRICS_EXPORTER=Otlp OTEL_TRACES_SAMPLER=Always_On OTEL_EXPORTER_OTLP_INSECURE=FALSE", ""},
		{"OTEL_SDK_DISABLED=1 OTEL_EXPORTER_OTLP_INSECURE=yes", "OTEL_EXPORTER_OTLP_INSECURE, OTEL_SDK_DISABLED (neither true nor false, so it counts as false)"},
		{"OTEL_EXPORTER_OTLP_INSECURE=maybe OTEL_EXPORTER_OTLP_ENDPOINT=http://x:1", "OTEL_EXPORTER_OTLP_INSECURE (neither true nor false, so it counts as false)"},
		{"OTEL_PYTHON_\x1b[2J=1", "OTEL_PYTHON_?[2J (clntrace does not know it)"},
	} {
		got := strings.TrimPrefix(Deaf(strings.Fields(tt.environ)), "variables of the environment that are not honoured: ")
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.environ, got, tt.want)
		}
	}
}
