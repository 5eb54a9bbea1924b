package options

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"clntrace/collector/export"
	"clntrace/collector/otlp"
	"clntrace/collector/payments"
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
	env     []string                 // environment variables used instead, the first that is set
	doc     string                   // what it does, with `code` marked as in Markdown
	more    func(voice.Voice) string // what follows doc, and differs by where clntrace runs; may be nil
	set     func(*Config, string) error
}

// All returns all options, in the order of the manual.
func All() []Option { return table }

// table holds all options. Everything that clntrace says about options or does with
// them comes from here.
var table = []Option{
	{Name: endpointOption, Kind: String, Default: otlp.DefaultEndpoint(otlp.ProtocolGRPC).String(),
		env: []string{tracesEndpoint, "OTEL_EXPORTER_OTLP_ENDPOINT"}, Dynamic: true,
		doc: "Where spans go: `http://host:port` (plaintext), `https://host:port` (TLS), `unix:///path`, `host:port` (TLS unless the host is loopback), or `off` to count and export nothing. " +
			"With `grpc` it has no path; with `http/protobuf` it may have one, below which spans go to `/v1/traces`. `" + tracesEndpoint + "` is used as it is",
		set: func(c *Config, s string) (err error) { c.Endpoint, err = parseEndpoint(s); return err }},
	{Name: protocolOption, Kind: String, Default: string(otlp.ProtocolGRPC), env: []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"},
		doc: "`grpc`, or `http/protobuf`, whose default endpoint is `http://localhost:4318`",
		set: setProtocol},
	{Name: "otlp-headers", Kind: Conceal, env: []string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"}, Dynamic: true,
		doc: "Headers of every export request: `key=value,key2=value2`, values percent-encoded. Never logged by clntrace, never in the statistics",
		more: func(v voice.Voice) string {
			if v.Change == "" {
				return ""
			}
			return "; lightningd itself logs what `" + v.Change + "` sets"
		},
		set: func(c *Config, s string) (err error) { c.Headers, err = parseHeaders(s); return err }},
	{Name: "otlp-timeout", Kind: String, Default: "10s",
		doc: "How long one export attempt may take",
		set: setDuration(maxTimeout, func(c *Config) *time.Duration { return &c.Timeout })},
	{Name: "otlp-compression", Kind: String, Default: string(otlp.CompressionNone),
		doc: "`none` or `gzip`",
		set: setCompression},
	{Name: "otlp-ca-file", Kind: String, env: []string{"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"}, defNote: always("the system's CAs"),
		doc: "PEM file with the CA certificates to trust",
		set: setFile(checkCA, func(c *Config) *string { return &c.CAFile })},
	{Name: certOption, Kind: String, env: []string{"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"},
		doc: "PEM file with the client's certificate. It and its key may be renewed while the node runs",
		set: setFile(nil, func(c *Config) *string { return &c.CertFile })},
	{Name: keyOption, Kind: String, env: []string{"OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"},
		doc: "PEM file with the key of the client's certificate",
		set: setFile(nil, func(c *Config) *string { return &c.KeyFile })},
	{Name: "service-name", Kind: String, defNote: always("each process under its own name"),
		doc: "One `service.name` for all spans",
		set: setText(func(c *Config) *string { return &c.ServiceName })},
	{Name: "service-namespace", Kind: String,
		doc: "`service.namespace` of all spans, to tell fleets apart",
		set: setText(func(c *Config) *string { return &c.ServiceNamespace })},
	{Name: "resource-attributes", Kind: String, env: []string{"OTEL_RESOURCE_ATTRIBUTES"},
		doc: "Attributes of every resource: `key=value,key2=value2`, values percent-encoded. `service.name` and `process.*` remain those of the process",
		set: func(c *Config, s string) (err error) {
			c.ResourceAttributes, err = parsePairs(s, checkAttribute)
			return err
		}},
	{Name: "group-requests", Kind: Bool, Default: "true",
		doc: "One trace per request across processes. `false`: ids leave exactly as they came",
		set: setBool(func(c *Config) *bool { return &c.GroupRequests })},
	{Name: "sample-ratio", Kind: String, Default: "1", Dynamic: true,
		doc: "Share of traces exported, 0 to 1. A trace is exported whole or not at all; statistics count every span",
		set: func(c *Config, s string) (err error) { c.SampleRatio, err = parseRatio(s); return err }},
	{Name: "drop-spans", Kind: String, Dynamic: true,
		doc: "Span names, separated by commas, with `*` for any text (`db_*`), that are counted and not exported",
		set: func(c *Config, s string) (err error) {
			c.DropSpans, err = parseList(s, checkText)
			return err
		}},
	{Name: "redact-tags", Kind: String, Dynamic: true,
		doc: "Tag names, separated by commas, whose values are exported as `[redacted]` (`payment_hash`, `id`, `query`). Of payments and forwards, `payment_hash`, `amount`, `channel` and `node` are hidden",
		set: func(c *Config, s string) (err error) {
			c.RedactTags, err = parseList(s, checkText)
			return err
		}},
	{Name: "queue-size", Kind: Int, Default: strconv.Itoa(export.DefaultQueueSize),
		doc: "Spans held in memory while they wait for export",
		// The upper bound is how many ordinary spans fit into the memory that is
		// reserved for the queue.
		set: setInt(1, 75000, func(c *Config) *int { return &c.QueueSize })},
	{Name: "batch-size", Kind: Int, Default: "2048",
		doc:  "Spans in one export request at most, never more than ",
		more: func(v voice.Voice) string { return "`" + v.Option("queue-size") + "`" },
		set:  setInt(1, 1<<14, func(c *Config) *int { return &c.BatchSize })},
	{Name: "batch-delay", Kind: String, Default: "1s",
		doc: "Longest wait for a batch to fill",
		set: setDuration(maxDelay, func(c *Config) *time.Duration { return &c.BatchDelay })},
	{Name: "spool-dir", Kind: String, defNote: func(v voice.Voice) string { return "`" + export.DefaultSpoolDir + "` in " + v.Directory },
		doc: "Where batches wait on disk while the endpoint is away",
		set: setPath(func(c *Config) *string { return &c.SpoolDir })},
	{Name: "spool-size", Kind: Int, Default: "64",
		doc: "MiB on disk at most, 0 for no spool. When it is full the oldest batches are dropped and counted",
		set: setInt(0, 1<<20, func(c *Config) *int { return &c.SpoolSize })},
	{Name: "payments", Kind: String, Default: payments.Local.String(), Dynamic: true,
		doc: "What is made of payments and forwards: `off`, `local` (shown on the node only), `outcomes` (also exported, without hashes, amounts, channels and nodes), `all` (exported with them)",
		more: func(v voice.Voice) string {
			if v.Change == "" { // only lightningd tells of them, and only its plugins
				return ". Without lightningd there is nothing to make it of: it tells only its plugins"
			}
			return ""
		},
		set: func(c *Config, s string) (err error) { c.Payments, err = payments.ParseMode(s); return err }},
	{Name: "allow-uids", Kind: String,
		doc: "Numeric ids of further users, separated by commas, whose spans are accepted. Only then is the socket's mode 0666",
		set: func(c *Config, s string) (err error) { c.AllowUIDs, err = parseUIDs(s); return err }},
	{Name: "metrics", Kind: Flag, defNote: always("off"),
		doc: "Also send OTLP metrics",
		set: setBool(func(c *Config) *bool { return &c.Metrics })},
}

// Options whose values Settings.Resolve checks against each other.
const (
	endpointOption = "otlp-endpoint"
	protocolOption = "otlp-protocol"
	certOption     = "otlp-cert-file"
	keyOption      = "otlp-key-file"
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

func parseEndpoint(s string) (otlp.Endpoint, error) {
	e, err := otlp.ParseEndpoint(s)
	if err == nil {
		err = checkText(s)
	}
	return e, err
}

func setProtocol(c *Config, s string) error {
	switch p := otlp.Protocol(s); p {
	case otlp.ProtocolGRPC, otlp.ProtocolHTTP:
		c.Protocol = p
		return nil
	}
	return fmt.Errorf("allowed are %s and %s", otlp.ProtocolGRPC, otlp.ProtocolHTTP)
}

func setCompression(c *Config, s string) error {
	switch p := otlp.Compression(s); p {
	case otlp.CompressionNone, otlp.CompressionGzip:
		c.Compression = p
		return nil
	}
	return fmt.Errorf("allowed are %s and %s", otlp.CompressionNone, otlp.CompressionGzip)
}

func setDuration(limit time.Duration, field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, s string) (err error) {
		*field(c), err = parseDuration(s, limit)
		return err
	}
}

func setInt(low, high int, field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, s string) (err error) {
		*field(c), err = parseInt(s, low, high)
		return err
	}
}

func setBool(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, s string) (err error) {
		*field(c), err = parseBool(s)
		return err
	}
}

func setText(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error {
		*field(c) = s
		return checkText(s)
	}
}

func setPath(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error {
		if err := checkPath(s); err != nil {
			return err
		}
		*field(c) = cmp.Or(s, *field(c))
		return nil
	}
}

func setFile(check func(string) error, field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error {
		if *field(c) = s; s == "" {
			return nil
		}
		if err := checkPath(s); err != nil || check == nil {
			return err
		}
		return check(s)
	}
}
