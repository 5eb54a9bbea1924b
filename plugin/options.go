package plugin

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	tabletext "github.com/jedib0t/go-pretty/v6/text"

	"clntrace/collector"
	"clntrace/collector/export"
	"clntrace/collector/text"
)

// prefix begins every option's name in lightningd's configuration.
const prefix = "clntrace-"

// kind is an option's type, under lightningd's name for it.
type kind string

const (
	kindString  kind = "string"
	kindConceal kind = "string-conceal" // lightningd lists it as "...", clntrace never repeats it
	kindInt     kind = "int"
	kindBool    kind = "bool"
	kindFlag    kind = "flag"
)

// option is one thing that an operator can set. Everything that clntrace says
// about options or does with them comes from the table below.
type option struct {
	name    string // without prefix
	kind    kind
	def     string   // the default as an operator would write it; empty: none
	defNote string   // the default in words, where it is not a value
	env     []string // environment variables used instead, the first that is set
	dynamic bool     // may change at run time
	doc     string   // what it does, with `code` marked as in Markdown
	set     func(*collector.Config, string) error
}

// options is the table of all options, in the order of the manual.
var options = []option{
	{name: endpointOption, kind: kindString, def: export.DefaultEndpoint(export.ProtocolGRPC).String(),
		env: []string{tracesEndpoint, "OTEL_EXPORTER_OTLP_ENDPOINT"}, dynamic: true,
		doc: "Where spans go: `http://host:port` (plaintext), `https://host:port` (TLS), `unix:///path`, `host:port` (TLS unless the host is loopback), or `off` to count and export nothing. " +
			"With `grpc` it has no path; with `http/protobuf` it may have one, below which spans go to `/v1/traces`. `" + tracesEndpoint + "` is used as it is",
		set: func(c *collector.Config, s string) (err error) { c.Endpoint, err = parseEndpoint(s); return err }},
	{name: protocolOption, kind: kindString, def: string(export.ProtocolGRPC), env: []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"},
		doc: "`grpc`, or `http/protobuf`, whose default endpoint is `http://localhost:4318`",
		set: setProtocol},
	{name: "otlp-headers", kind: kindConceal, env: []string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"}, dynamic: true,
		doc: "Headers of every export request: `key=value,key2=value2`, values percent-encoded. Never logged by clntrace, never in `tracestats`; lightningd itself logs what `setconfig` sets",
		set: func(c *collector.Config, s string) (err error) { c.Headers, err = parseHeaders(s); return err }},
	{name: "otlp-timeout", kind: kindString, def: "10s",
		doc: "How long one export attempt may take",
		set: setDuration(maxTimeout, func(c *collector.Config) *time.Duration { return &c.Timeout })},
	{name: "otlp-compression", kind: kindString, def: string(export.CompressionNone),
		doc: "`none` or `gzip`",
		set: setCompression},
	{name: "otlp-ca-file", kind: kindString, env: []string{"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"}, defNote: "the system's CAs",
		doc: "PEM file with the CA certificates to trust",
		set: setFile(checkCA, func(c *collector.Config) *string { return &c.CAFile })},
	{name: certOption, kind: kindString, env: []string{"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"},
		doc: "PEM file with the client's certificate. It and its key may be renewed while the node runs",
		set: setFile(nil, func(c *collector.Config) *string { return &c.CertFile })},
	{name: keyOption, kind: kindString, env: []string{"OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"},
		doc: "PEM file with the key of the client's certificate",
		set: setFile(nil, func(c *collector.Config) *string { return &c.KeyFile })},
	{name: "service-name", kind: kindString, defNote: "each process under its own name",
		doc: "One `service.name` for all spans",
		set: setText(func(c *collector.Config) *string { return &c.ServiceName })},
	{name: "service-namespace", kind: kindString,
		doc: "`service.namespace` of all spans, to tell fleets apart",
		set: setText(func(c *collector.Config) *string { return &c.ServiceNamespace })},
	{name: "resource-attributes", kind: kindString, env: []string{"OTEL_RESOURCE_ATTRIBUTES"},
		doc: "Attributes of every resource: `key=value,key2=value2`, values percent-encoded. `service.name` and `process.*` remain those of the process",
		set: func(c *collector.Config, s string) (err error) {
			c.ResourceAttributes, err = parsePairs(s, checkAttribute)
			return err
		}},
	{name: "group-requests", kind: kindBool, def: "true",
		doc: "One trace per request across processes. `false`: ids leave exactly as they came",
		set: setBool(func(c *collector.Config) *bool { return &c.GroupRequests })},
	{name: "sample-ratio", kind: kindString, def: "1", dynamic: true,
		doc: "Share of traces exported, 0 to 1. A trace is exported whole or not at all; statistics count every span",
		set: func(c *collector.Config, s string) (err error) { c.SampleRatio, err = parseRatio(s); return err }},
	{name: "drop-spans", kind: kindString, dynamic: true,
		doc: "Span names, separated by commas, with `*` for any text (`db_*`), that are counted and not exported",
		set: func(c *collector.Config, s string) (err error) {
			c.DropSpans, err = parseList(s, checkText)
			return err
		}},
	{name: "redact-tags", kind: kindString, dynamic: true,
		doc: "Tag names, separated by commas, whose values are exported as `[redacted]` (`payment_hash`, `id`, `query`)",
		set: func(c *collector.Config, s string) (err error) {
			c.RedactTags, err = parseList(s, checkText)
			return err
		}},
	{name: "queue-size", kind: kindInt, def: strconv.Itoa(export.DefaultQueueSize),
		doc: "Spans held in memory while they wait for export",
		// The upper bound is how many ordinary spans fit into the memory that is
		// reserved for the queue.
		set: setInt(1, 75000, func(c *collector.Config) *int { return &c.QueueSize })},
	{name: "batch-size", kind: kindInt, def: "2048",
		doc: "Spans in one export request at most, never more than `clntrace-queue-size`",
		set: setInt(1, 1<<14, func(c *collector.Config) *int { return &c.BatchSize })},
	{name: "batch-delay", kind: kindString, def: "1s",
		doc: "Longest wait for a batch to fill",
		set: setDuration(maxDelay, func(c *collector.Config) *time.Duration { return &c.BatchDelay })},
	{name: "spool-dir", kind: kindString, defNote: "`" + export.DefaultSpoolDir + "` in lightningd's network directory",
		doc: "Where batches wait on disk while the endpoint is away",
		set: setPath(func(c *collector.Config) *string { return &c.SpoolDir })},
	{name: "spool-size", kind: kindInt, def: "64",
		doc: "MiB on disk at most, 0 for no spool. When it is full the oldest batches are dropped and counted",
		set: setInt(0, 1<<20, func(c *collector.Config) *int { return &c.SpoolSize })},
	{name: "allow-uids", kind: kindString,
		doc: "Numeric ids of further users, separated by commas, whose spans are accepted. Only then is the socket's mode 0666",
		set: func(c *collector.Config, s string) (err error) { c.AllowUIDs, err = parseUIDs(s); return err }},
	{name: "metrics", kind: kindFlag, defNote: "off",
		doc: "Also send OTLP metrics",
		set: setBool(func(c *collector.Config) *bool { return &c.Metrics })},
}

// Options whose values settings.resolve checks against each other.
const (
	endpointOption = "otlp-endpoint"
	protocolOption = "otlp-protocol"
	certOption     = "otlp-cert-file"
	keyOption      = "otlp-key-file"
)

// tracesEndpoint is the variable that is for traces alone: its value is used as it
// is, and not as a base for the paths of all signals.
const tracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"

// optionNamed finds an option by its name without prefix.
func optionNamed(name string) (option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.name == name })
	if i < 0 {
		return option{}, false
	}
	return options[i], true
}

// settings are the sources of option values.
type settings struct {
	given  map[string]string   // values by option name, as lightningd or the command line gave them
	getenv func(string) string // empty means unset, as in the OpenTelemetry specification
	prefix string              // before option names in errors
	dir    string              // parent of the default spool directory; empty: the working directory
}

// fault is a value that cannot be used.
type fault struct {
	option string // name without prefix
	source string // option or variable, as the operator wrote it
	text   string // one sentence: the source, what it got, what is allowed
}

// remedy says how the operator of a node corrects f. lightningd reads its
// configuration and its environment only once, at its start, so restarting
// clntrace alone is not enough.
func (f fault) remedy() string {
	switch o, _ := optionNamed(f.option); {
	case f.source != prefix+f.option:
		return "Correct it in lightningd's environment and restart the node"
	case o.dynamic:
		return "Correct it with 'lightning-cli setconfig " + f.source + " VALUE'"
	}
	return "Correct it in lightningd's configuration and restart the node"
}

// resolve computes the configuration: an option beats its variables, which beat
// the default. It returns all faults at once; faulty options keep their defaults.
func (s settings) resolve() (collector.Config, []fault) {
	cfg := collector.DefaultConfig()
	if s.dir != "" {
		cfg.SpoolDir = filepath.Join(s.dir, export.DefaultSpoolDir)
	}
	var faults []fault
	protocol, _ := optionNamed(protocolOption)
	faults = s.apply(&cfg, protocol, faults)
	cfg.Endpoint = export.DefaultEndpoint(cfg.Protocol)
	for _, o := range options {
		if o.name != protocolOption {
			faults = s.apply(&cfg, o, faults)
		}
	}
	faults = s.checkEndpoint(&cfg, faults)
	// Whoever asks for a queue smaller than a batch wants a small queue.
	cfg.BatchSize = min(cfg.BatchSize, cfg.QueueSize)
	return cfg, s.checkClientCertificate(cfg, faults)
}

// apply puts the value of one option, if it has one, into cfg.
func (s settings) apply(cfg *collector.Config, o option, faults []fault) []fault {
	label, value, ok := s.lookup(o)
	if !ok {
		return faults
	}
	before := *cfg
	err := o.set(cfg, strings.TrimSpace(value))
	if err == nil && quoted(value) != "" {
		// A name or tag with the marks is one that nothing has: what was to be
		// redacted would be shown.
		err = errors.New("allowed is the value alone")
	}
	if err != nil {
		*cfg = before
		return append(faults, fault{o.name, label, o.refusal(label, value, err)})
	}
	return faults
}

// lookup finds an option's value, and the name of its source for errors.
func (s settings) lookup(o option) (label, value string, ok bool) {
	if value, ok = s.given[o.name]; ok {
		return s.prefix + o.name, value, true
	}
	for _, name := range o.env {
		if value = s.getenv(name); value != "" {
			return name, value, true
		}
	}
	return "", "", false
}

// refusal is the sentence about a value that cannot be used. It shows neither the
// value of a concealed option nor credentials in a URL.
func (o option) refusal(label, value string, err error) string {
	if o.kind == kindConceal {
		return text.Sentence(fmt.Sprintf("%s: %v", label, err)) + quoted(value)
	}
	at := strings.LastIndex(value, "@")
	if at >= 0 && (o.name == endpointOption || strings.Contains(value[:at], ":")) {
		value = "***" + value[at:]
	}
	return text.Sentence(fmt.Sprintf("%s: got '%s', %v", label, text.Quotable(value), err)) + quoted(value)
}

// quoted is the advice for a value in quotation marks: lightningd takes them as a
// part of the value.
func quoted(value string) string {
	value = strings.TrimSpace(value)
	if n := len(value); n > 1 && value[0] == value[n-1] && strings.ContainsRune("\"'", rune(value[0])) {
		return "; leave out the quotation marks"
	}
	return ""
}

// checkEndpoint checks the endpoint against the protocol, and treats the variable
// that is for traces alone as such.
func (s settings) checkEndpoint(cfg *collector.Config, faults []fault) []fault {
	o, _ := optionNamed(endpointOption)
	label, value, ok := s.lookup(o)
	if !ok || cfg.Endpoint.String() != strings.TrimSpace(value) {
		return faults // the default, also where the value was refused
	}
	switch {
	case cfg.Protocol == export.ProtocolGRPC && cfg.Endpoint.HasPath():
		cfg.Endpoint = export.DefaultEndpoint(cfg.Protocol)
		return append(faults, fault{o.name, label, o.refusal(label, value, fmt.Errorf("which has a path, and gRPC has none; allowed is http://host:port, or to set %s%s=%s",
			s.prefix, protocolOption, export.ProtocolHTTP))})
	case cfg.Protocol == export.ProtocolHTTP && label == tracesEndpoint:
		cfg.Endpoint = cfg.Endpoint.ForTracesAlone()
	}
	return faults
}

// checkClientCertificate checks that the client's certificate and key are either
// both set or both absent, and belong together.
func (s settings) checkClientCertificate(cfg collector.Config, faults []fault) []fault {
	if cfg.CertFile == "" && cfg.KeyFile == "" {
		return faults
	}
	present, missing := certOption, keyOption
	if cfg.CertFile == "" {
		present, missing = missing, present
	}
	if cfg.CertFile == "" || cfg.KeyFile == "" {
		return append(faults, s.fault(missing, fmt.Sprintf("%s is not set, %s is; allowed are both or none", s.source(missing), s.source(present))))
	}
	if err := checkKeyPair(cfg.CertFile, cfg.KeyFile); err != nil {
		return append(faults, s.fault(certOption, fmt.Sprintf("%s and %s: got '%s' and '%s', %v",
			s.source(certOption), s.source(keyOption), text.Quotable(cfg.CertFile), text.Quotable(cfg.KeyFile), err)))
	}
	return faults
}

func (s settings) fault(option, why string) fault {
	return fault{option, s.source(option), text.Sentence(why)}
}

// source names what the operator set an option with: the option or a variable.
func (s settings) source(name string) string {
	o, _ := optionNamed(name)
	if label, _, ok := s.lookup(o); ok {
		return label
	}
	return s.prefix + name
}

// sentences returns the texts of faults, each with its remedy.
func sentences(faults []fault) []string {
	var list []string
	for _, f := range faults {
		list = append(list, f.text+". "+f.remedy())
	}
	return list
}

func parseEndpoint(s string) (export.Endpoint, error) {
	e, err := export.ParseEndpoint(s)
	if err == nil {
		err = checkText(s)
	}
	return e, err
}

func setProtocol(c *collector.Config, s string) error {
	switch p := export.Protocol(s); p {
	case export.ProtocolGRPC, export.ProtocolHTTP:
		c.Protocol = p
		return nil
	}
	return fmt.Errorf("allowed are %s and %s", export.ProtocolGRPC, export.ProtocolHTTP)
}

func setCompression(c *collector.Config, s string) error {
	switch p := export.Compression(s); p {
	case export.CompressionNone, export.CompressionGzip:
		c.Compression = p
		return nil
	}
	return fmt.Errorf("allowed are %s and %s", export.CompressionNone, export.CompressionGzip)
}

func setDuration(limit time.Duration, field func(*collector.Config) *time.Duration) func(*collector.Config, string) error {
	return func(c *collector.Config, s string) (err error) {
		*field(c), err = parseDuration(s, limit)
		return err
	}
}

func setInt(low, high int, field func(*collector.Config) *int) func(*collector.Config, string) error {
	return func(c *collector.Config, s string) (err error) {
		*field(c), err = parseInt(s, low, high)
		return err
	}
}

func setBool(field func(*collector.Config) *bool) func(*collector.Config, string) error {
	return func(c *collector.Config, s string) (err error) {
		*field(c), err = parseBool(s)
		return err
	}
}

func setText(field func(*collector.Config) *string) func(*collector.Config, string) error {
	return func(c *collector.Config, s string) error {
		*field(c) = s
		return checkText(s)
	}
}

func setPath(field func(*collector.Config) *string) func(*collector.Config, string) error {
	return func(c *collector.Config, s string) error {
		if err := checkPath(s); err != nil {
			return err
		}
		*field(c) = cmp.Or(s, *field(c))
		return nil
	}
}

func setFile(check func(string) error, field func(*collector.Config) *string) func(*collector.Config, string) error {
	return func(c *collector.Config, s string) error {
		if *field(c) = s; s == "" {
			return nil
		}
		if err := checkPath(s); err != nil || check == nil {
			return err
		}
		return check(s)
	}
}

// defaultText says what applies if an option is not set.
func (o option) defaultText() string {
	last := o.defNote
	if last == "" && o.def != "" {
		last = "`" + o.def + "`"
	}
	var names []string
	for _, name := range o.env {
		names = append(names, "`"+name+"`")
	}
	switch {
	case len(names) == 0:
		return last
	case last == "":
		return strings.Join(names, ", ")
	}
	return strings.Join(names, ", ") + ", else " + last
}

// The layout of the help, for a terminal of the usual 80 columns.
const (
	helpWidth  = 80
	helpIndent = "      "
)

// optionHelp lists the options for a terminal, with lead before each name. speak
// adapts the wording to the command whose help it is.
func optionHelp(lead string, speak func(string) string) string {
	var b strings.Builder
	for _, o := range options {
		fmt.Fprintf(&b, "  %s%s", lead, o.name)
		if o.kind != kindFlag {
			fmt.Fprintf(&b, "=%s", strings.TrimSuffix(string(o.kind), "-conceal"))
		}
		b.WriteByte('\n')
		for line := range strings.SplitSeq(tabletext.WrapSoft(speak(o.plainDoc()), helpWidth-len(helpIndent)), "\n") {
			b.WriteString(helpIndent + strings.TrimRight(line, " ") + "\n")
		}
	}
	return b.String()
}

// plainDoc is the description with the default, for a terminal.
func (o option) plainDoc() string {
	doc := o.doc
	if d := o.defaultText(); d != "" {
		doc += " (default: " + d + ")"
	}
	return plain(doc)
}

// plain removes Markdown's code marks.
func plain(doc string) string { return strings.ReplaceAll(doc, "`", "") }
