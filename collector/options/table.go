package options

import (
	"net/url"
	"slices"
	"strconv"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/export"
	"clntrace/collector/otlp"
	"clntrace/collector/voice"
)

// Kind is an option's type, under lightningd's name for it.
type Kind string

// The types of options.
const (
	String  Kind = "string"
	Conceal Kind = "string-conceal" // lightningd lists it as "...", clntrace never repeats it
	Int     Kind = "int"
	Bool    Kind = "bool"
	Flag    Kind = "flag"
)

// Option is one thing that an operator can set.
type Option struct {
	Name    string // without prefix
	Kind    Kind
	Default string // as an operator would write it; empty: none
	Dynamic bool   // may change at run time

	defNote func(voice.Voice) string // the default in words, where it is not a value; may be nil
	env     []variable               // environment variables used instead, the first that is set
	doc     string                   // what it does, with `code` marked as in Markdown
	more    func(voice.Voice) string // what follows doc, and differs by where clntrace runs; may be nil
	parser
}

// All returns all options, in the order of the manual.
func All() []Option { return table }

// table holds all options. Everything that clntrace says about options or does with
// them comes from here.
var table = []Option{
	{Name: endpointOption, Kind: String, Default: otlp.DefaultEndpoint(otlp.ProtocolGRPC).String(),
		env: slices.Concat(switchedOff, otlpVariables("ENDPOINT")), Dynamic: true,
		doc: "Where spans go: `http://host:port` (plaintext), `https://host:port` (TLS), `unix:///path`, `host:port` (TLS unless the host is loopback), or `off` to count and export nothing. " +
			"With `grpc` it has no path; with `http/protobuf` it may have one, below which spans go to `/v1/traces`. `" + tracesEndpoint + "` is used as it is",
		parser: parser{set: func(c *Config, s string) (err error) { c.Endpoint, err = parseEndpoint(s); return err }}},
	{Name: protocolOption, Kind: String, Default: string(otlp.ProtocolGRPC), env: inAnyCase(otlpVariables("PROTOCOL")...),
		doc:    "`grpc`, or `http/protobuf`, whose default endpoint is `http://localhost:4318`",
		parser: protocol},
	{Name: "otlp-headers", Kind: Conceal, env: otlpVariables("HEADERS"), Dynamic: true,
		doc: "Headers of every export request: `key=value,key2=value2`, values percent-encoded. Never logged by clntrace, never in the statistics",
		more: func(v voice.Voice) string {
			if v.Change == "" {
				return ""
			}
			return "; lightningd itself logs what `" + v.Change + "` sets"
		},
		parser: parser{set: func(c *Config, s string) (err error) { c.Headers, err = parseHeaders(s); return err }}},
	{Name: "otlp-timeout", Kind: String, Default: "10s", env: inMilliseconds(otlpVariables("TIMEOUT")...),
		doc:    "How long one export attempt may take",
		parser: durationTo(maxTimeout, func(c *Config) *time.Duration { return &c.Timeout })},
	{Name: "otlp-compression", Kind: String, Default: string(otlp.CompressionNone), env: inAnyCase(otlpVariables("COMPRESSION")...),
		doc:    "`none` or `gzip`",
		parser: compression},
	{Name: "otlp-ca-file", Kind: String, env: otlpVariables("CERTIFICATE"), defNote: always("the system's CAs"),
		doc:    "PEM file with the CA certificates to trust",
		parser: file(checkCA, func(c *Config) *string { return &c.CAFile })},
	{Name: certOption, Kind: String, env: otlpVariables("CLIENT_CERTIFICATE"),
		doc:    "PEM file with the client's certificate. It and its key may be renewed while the node runs",
		parser: file(nil, func(c *Config) *string { return &c.CertFile })},
	{Name: keyOption, Kind: String, env: otlpVariables("CLIENT_KEY"),
		doc:    "PEM file with the key of the client's certificate",
		parser: file(nil, func(c *Config) *string { return &c.KeyFile })},
	{Name: "service-name", Kind: String, env: named("OTEL_SERVICE_NAME"), defNote: always("each process under its own name"),
		doc:    "One `service.name` for all spans",
		parser: shortText(func(c *Config) *string { return &c.ServiceName })},
	{Name: "service-namespace", Kind: String,
		doc:    "`service.namespace` of all spans, to tell fleets apart",
		parser: shortText(func(c *Config) *string { return &c.ServiceNamespace })},
	{Name: "resource-attributes", Kind: String, env: named("OTEL_RESOURCE_ATTRIBUTES"),
		doc: "Attributes of every resource: `key=value,key2=value2`, both percent-encoded. `service.name` and `process.*` remain those of the process",
		parser: parser{set: func(c *Config, s string) (err error) {
			c.ResourceAttributes, err = parsePairs(s, url.PathUnescape, checkAttribute)
			return err
		}}},
	{Name: "group-requests", Kind: Bool, Default: "true",
		doc:    "One trace per request across processes. `false`: ids leave exactly as they came",
		parser: boolean(func(c *Config) *bool { return &c.GroupRequests })},
	{Name: ratioOption, Kind: String, Default: "1", env: samplers, Dynamic: true,
		doc:    "Share of traces exported. A trace is exported whole or not at all; statistics count every span",
		parser: parser{limit: "0 to 1", set: func(c *Config, s string) (err error) { c.SampleRatio, err = parseRatio(s); return err }}},
	{Name: "drop-spans", Kind: String, Dynamic: true,
		doc: "Span names, separated by commas, with `*` for any text (`db_*`), that are counted and not exported. A pattern matches the name as sent, the exported name, or the text that the statistics show under WHAT (`jsonrpc getinfo`)",
		parser: parser{set: func(c *Config, s string) (err error) {
			c.DropSpans, err = parseList(s, checkText)
			return err
		}}},
	{Name: "redact-tags", Kind: String, Dynamic: true,
		doc: "Tag names, separated by commas, whose values are exported as `[redacted]` (`payment_hash`, `id`, `query`), those of spans that wait on disk included. Of payments and forwards, `payment_hash`, `amount`, `channel` and `node` are hidden",
		parser: parser{set: func(c *Config, s string) (err error) {
			c.RedactTags, err = parseList(s, checkText)
			return err
		}}},
	{Name: "queue-size", Kind: Int, Default: strconv.Itoa(export.DefaultQueueSize), env: named("OTEL_BSP_MAX_QUEUE_SIZE"),
		doc: "Spans held in memory while they wait for export",
		// The upper bound is how many ordinary spans fit into the memory that is
		// reserved for the queue.
		parser: wholeNumber(1, 75000, func(c *Config) *int { return &c.QueueSize })},
	{Name: "batch-size", Kind: Int, Default: "2048", env: named("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
		doc:    "Spans in one export request at most, never more than ",
		more:   func(v voice.Voice) string { return "`" + v.Option("queue-size") + "`" },
		parser: wholeNumber(1, 1<<14, func(c *Config) *int { return &c.BatchSize })},
	{Name: "batch-delay", Kind: String, Default: "1s", env: inMilliseconds(named("OTEL_BSP_SCHEDULE_DELAY")...),
		doc:    "Longest wait for a batch to fill",
		parser: durationTo(maxDelay, func(c *Config) *time.Duration { return &c.BatchDelay })},
	{Name: "spool-dir", Kind: String, defNote: func(v voice.Voice) string { return "`" + export.DefaultSpoolDir + "` in " + v.Directory },
		doc:    "Where batches wait on disk while the endpoint is away",
		parser: path(func(c *Config) *string { return &c.SpoolDir })},
	{Name: "spool-size", Kind: Int, Default: "64",
		doc:    "MiB on disk at most, 0 for no spool. When it is full the oldest batches are dropped and counted",
		parser: wholeNumber(0, 1<<20, func(c *Config) *int { return &c.SpoolSize })},
	{Name: "span-names", Kind: String, Default: string(cln.SpanNamesSemantic),
		doc:    "Names of spans in OTLP: `semantic` is what a span is about (`getroutes`, `UPDATE channels`), `as-sent` is the name that lightningd gave",
		parser: spanNames},
	{Name: "payments", Kind: String, Default: cln.PaymentsLocal.String(), Dynamic: true,
		doc: "What is made of payments and forwards: `off`; `local`, on the node only; `outcomes`, also exported, without hashes, amounts, channels and nodes; `all`, exported with them",
		more: func(v voice.Voice) string {
			if v.Change == "" {
				return ". lightningd tells them to its plugins only: there are none here"
			}
			return ""
		},
		parser: payments},
	{Name: "recorder-size", Kind: Int, Default: "16",
		doc: "MiB of memory for the traces that are kept to be shown, 0 for none. While many spans wait for export they get less",
		// More would break the promise of 128 MiB resident.
		parser: wholeNumber(0, 32, func(c *Config) *int { return &c.RecorderSize })},
	{Name: "prometheus-listen", Kind: String, env: prometheus, defNote: always("none"),
		doc:    "`host:port`, such as `localhost:9464`, on which Prometheus may scrape `/metrics`, with or without OTLP metrics",
		parser: listenAddress(func(c *Config) *string { return &c.PrometheusListen })},
	{Name: "allow-uids", Kind: String,
		doc:    "Numeric ids of further users, separated by commas, whose spans are accepted. Only then is the socket's mode 0666",
		parser: parser{set: func(c *Config, s string) (err error) { c.AllowUIDs, err = parseUIDs(s); return err }}},
	{Name: "metrics", Kind: Flag, env: metricsSwitch, defNote: always("off"),
		doc:    "Also send OTLP metrics",
		parser: boolean(func(c *Config) *bool { return &c.Metrics })},
}

// Options whose values Settings.Resolve checks against each other.
const (
	endpointOption = "otlp-endpoint"
	protocolOption = "otlp-protocol"
	certOption     = "otlp-cert-file"
	keyOption      = "otlp-key-file"
	ratioOption    = "sample-ratio"
)

// tracesEndpoint is the variable that is for traces alone: its value is used as it
// is, and not as a base for the paths of all signals.
const tracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"

// Named finds an option by its name without prefix.
func Named(name string) (o Option, found bool) {
	for _, o := range table {
		if o.Name == name {
			return o, true
		}
	}
	return Option{}, false
}

// always is a text that is the same wherever clntrace runs.
func always(text string) func(voice.Voice) string {
	return func(voice.Voice) string { return text }
}
