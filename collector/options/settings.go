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
	faults = s.checkEndpoint(&cfg, faults)
	// Whoever asks for a queue smaller than a batch wants a small queue.
	cfg.BatchSize = min(cfg.BatchSize, cfg.QueueSize)
	return cfg, s.checkClientCertificate(cfg, faults)
}

// apply puts the value of one option, if it has one, into cfg.
func (s Settings) apply(cfg *Config, o Option, faults []Fault) []Fault {
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
		return append(faults, o.Refuse(label, value, err))
	}
	return faults
}

// lookup finds an option's value, and the name of its source for errors.
func (s Settings) lookup(o Option) (label, value string, ok bool) {
	if value, ok = s.Given[o.Name]; ok {
		return s.Voice.Option(o.Name), value, true
	}
	for _, name := range o.env {
		if value = s.Getenv(name); value != "" {
			return name, value, true
		}
	}
	return "", "", false
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

// checkEndpoint checks the endpoint against the protocol, and treats the variable
// that is for traces alone as such.
func (s Settings) checkEndpoint(cfg *Config, faults []Fault) []Fault {
	o, _ := Named(endpointOption)
	label, value, ok := s.lookup(o)
	if !ok || cfg.Endpoint.String() != strings.TrimSpace(value) {
		return faults // the default, also where the value was refused
	}
	switch {
	case cfg.Protocol == otlp.ProtocolGRPC && cfg.Endpoint.HasPath():
		cfg.Endpoint = otlp.DefaultEndpoint(cfg.Protocol)
		return append(faults, o.Refuse(label, value, fmt.Errorf("which has a path, and gRPC has none; allowed is http://host:port, or to set %s=%s",
			s.Voice.Option(protocolOption), otlp.ProtocolHTTP)))
	case cfg.Protocol == otlp.ProtocolHTTP && label == tracesEndpoint:
		cfg.Endpoint = cfg.Endpoint.ForTracesAlone()
	}
	return faults
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
		return append(faults, s.fault(missing, fmt.Sprintf("%s is not set, %s is; allowed are both or none", s.source(missing), s.source(present))))
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
	if label, _, ok := s.lookup(o); ok {
		return label
	}
	return s.Voice.Option(name)
}
