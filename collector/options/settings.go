package options

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"clntrace/collector/export"
	"clntrace/collector/otlp"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

// Settings are the sources of option values.
type Settings struct {
	// Given are values by option name without prefix, as lightningd or the command
	// line gave them.
	Given map[string]string
	// Getenv looks up an environment variable. Empty means unset, as in the
	// OpenTelemetry specification.
	Getenv func(string) string
	// Voice names options in faults.
	Voice voice.Voice
	// Dir is the parent of the default spool directory; empty: the working directory.
	Dir string
}

// Fault is a value that cannot be used.
type Fault struct {
	Option string // name without prefix
	Source string // option or variable, as the operator wrote it
	Text   string // one sentence without a full stop: the source, what it got, what is allowed
}

// Resolve computes the configuration: an option beats its variables, which beat
// the default. It returns all faults at once; faulty options keep their defaults.
func (s Settings) Resolve() (Config, []Fault) {
	cfg := Defaults()
	if s.Dir != "" {
		cfg.SpoolDir = filepath.Join(s.Dir, export.DefaultSpoolDir)
	}
	var faults []Fault
	protocol, _ := Named(protocolOption)
	faults = s.apply(&cfg, protocol, faults)
	cfg.Endpoint = otlp.DefaultEndpoint(cfg.Protocol)
	for _, o := range table {
		if o.Name != protocolOption {
			faults = s.apply(&cfg, o, faults)
		}
	}
	endpoint, _ := Named(endpointOption)
	faults = s.checkEndpoint(&cfg, endpoint, faults)
	// Whoever asks for a queue smaller than a batch wants a small queue.
	cfg.BatchSize = min(cfg.BatchSize, cfg.QueueSize)
	return cfg, s.checkClientCertificate(cfg, faults)
}

// source is where an option's value comes from.
type source struct {
	name  string // of the option or variable, as the operator wrote it
	raw   string // as the operator wrote it
	value string // as the option wants it
	err   error  // why there is no value
}

// apply puts the value of one option, if it has one, into cfg.
func (s Settings) apply(cfg *Config, o Option, faults []Fault) []Fault {
	from, found := s.lookup(o)
	if !found {
		return faults
	}
	before := *cfg
	err := from.err
	if err == nil {
		err = o.set(cfg, strings.TrimSpace(from.value))
	}
	if err == nil && quoted(from.value) != "" {
		// A name or tag with the marks is one that nothing has: what was to be
		// redacted would be shown.
		err = errors.New("must be the value alone")
	}
	if err != nil {
		*cfg = before
		return append(faults, o.Refuse(from.name, from.raw, err))
	}
	return faults
}

// lookup finds an option's value.
func (s Settings) lookup(o Option) (from source, found bool) {
	if value, given := s.Given[o.Name]; given {
		return source{name: s.Voice.Option(o.Name), raw: value, value: value}, true
	}
	for _, v := range o.env {
		raw := s.Getenv(v.name)
		if strings.TrimSpace(raw) == "" {
			continue
		}
		if v.read == nil {
			return source{name: v.name, raw: raw, value: raw}, true
		}
		if value, heard, err := v.read(strings.TrimSpace(raw), s.Getenv); heard {
			return source{v.name, raw, value, err}, true
		}
	}
	return source{}, false
}

// Refuse returns the fault that a value from source is. Its text shows neither the
// value of a concealed option nor credentials in a URL.
func (o Option) Refuse(source, value string, err error) Fault {
	return Fault{o.Name, source, o.refusal(source, value, err)}
}

func (o Option) refusal(source, value string, err error) string {
	if o.Kind == Conceal {
		return text.Sentence(fmt.Sprintf("%s: %v", source, err)) + quoted(value)
	}
	at := strings.LastIndex(value, "@")
	if at >= 0 && (o.Name == endpointOption || strings.Contains(value[:at], ":")) {
		value = "***" + value[at:]
	}
	return text.Sentence(fmt.Sprintf("%s: got '%s', %v", source, text.Quotable(value), err)) + quoted(value)
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

// checkEndpoint applies to the endpoint what other options and variables say about
// it: o is its option.
func (s Settings) checkEndpoint(cfg *Config, o Option, faults []Fault) []Fault {
	from, found := s.lookup(o)
	value := strings.TrimSpace(from.value)
	if !found || cfg.Endpoint.String() != value {
		return faults // the default, also where the value was refused
	}
	if from.name == tracesExporter && cfg.Metrics { // they go to the same endpoint
		cfg.Endpoint, cfg.SampleRatio = otlp.DefaultEndpoint(cfg.Protocol), 0
		o.env = otlpVariables("ENDPOINT")
		return s.checkEndpoint(cfg, o, s.apply(cfg, o, faults))
	}
	if scheme := s.scheme(); scheme != "" && !cfg.Endpoint.Off() && !strings.Contains(value, ":/") {
		cfg.Endpoint, _ = otlp.ParseEndpoint(scheme + value) // has been parsed without it
	}
	switch {
	case cfg.Protocol == otlp.ProtocolGRPC && cfg.Endpoint.HasPath():
		cfg.Endpoint = otlp.DefaultEndpoint(cfg.Protocol)
		return append(faults, o.Refuse(from.name, from.raw, fmt.Errorf("which has a path, and gRPC has none; must be http://host:port, or set %s=%s",
			s.Voice.Option(protocolOption), otlp.ProtocolHTTP)))
	case cfg.Protocol == otlp.ProtocolHTTP && from.name == tracesEndpoint:
		cfg.Endpoint = cfg.Endpoint.ForTracesAlone()
	}
	return faults
}

// scheme is what the environment puts before an endpoint without one; empty: nothing.
func (s Settings) scheme() string {
	for _, v := range insecure {
		switch value := s.Getenv(v.name); {
		case strings.EqualFold(strings.TrimSpace(value), "true"):
			return "http://"
		case value != "":
			return "https://"
		}
	}
	return ""
}

// checkClientCertificate checks that the client's certificate and key are either
// both set or both absent, and belong together.
func (s Settings) checkClientCertificate(cfg Config, faults []Fault) []Fault {
	if cfg.CertFile == "" && cfg.KeyFile == "" {
		return faults
	}
	present, missing := certOption, keyOption
	if cfg.CertFile == "" {
		present, missing = missing, present
	}
	if cfg.CertFile == "" || cfg.KeyFile == "" {
		return append(faults, s.fault(missing, fmt.Sprintf("%s is not set, %s is; set both or none", s.source(missing), s.source(present))))
	}
	if err := checkKeyPair(cfg.CertFile, cfg.KeyFile); err != nil {
		return append(faults, s.fault(certOption, fmt.Sprintf("%s and %s: got '%s' and '%s', %v",
			s.source(certOption), s.source(keyOption), text.Quotable(cfg.CertFile), text.Quotable(cfg.KeyFile), err)))
	}
	return faults
}

func (s Settings) fault(option, what string) Fault {
	return Fault{option, s.source(option), text.Sentence(what)}
}

// source names what the operator set an option with: the option or a variable.
func (s Settings) source(name string) string {
	o, _ := Named(name)
	if from, found := s.lookup(o); found {
		return from.name
	}
	return s.Voice.Option(name)
}
