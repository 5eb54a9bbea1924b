package lightningdtest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Manifest is the answer to getmanifest, as far as lightningd reads it.
type Manifest struct {
	Options       []Option    `json:"options"`
	RPCMethods    []RPCMethod `json:"rpcmethods"`
	Subscriptions []string    `json:"subscriptions"`
	Hooks         []any       `json:"hooks"`
	Dynamic       bool        `json:"dynamic"`
	NonNumericIDs bool        `json:"nonnumericids"`
	CanCheck      bool        `json:"cancheck"`
	Disable       string      `json:"disable"`
}

// Option is an option that the plugin announced.
type Option struct {
	Name        string          `json:"name"`
	Type        string          `json:"type"` // "string", "string-conceal", "int", "bool" or "flag"
	Default     json.RawMessage `json:"default"`
	Description string          `json:"description"`
	Dynamic     bool            `json:"dynamic"`
	Multi       bool            `json:"multi"`
}

// RPCMethod is a method that the plugin announced.
type RPCMethod struct {
	Name        string `json:"name"`
	Usage       string `json:"usage"`
	Description string `json:"description"`
}

// Option returns the option of that name.
func (m Manifest) Option(name string) (Option, bool) {
	for _, o := range m.Options {
		if o.Name == name {
			return o, true
		}
	}
	return Option{}, false
}

// initOptions are the values that lightningd passes to init: what the user
// set, by the option's type; the default of the others; and nothing for those
// without one. The error is what would keep lightningd from starting.
func (m Manifest) initOptions(set map[string]string) (map[string]any, error) {
	options := map[string]any{}
	for _, o := range m.Options {
		if text, isSet := set[o.Name]; isSet {
			value, err := o.parse(text)
			if err != nil {
				return nil, err
			}
			options[o.Name] = value
		} else if hasDefault := len(o.Default) > 0 && string(o.Default) != "null"; hasDefault && o.Type != "flag" {
			value, err := o.parse(unquote(o.Default))
			if err != nil {
				return nil, fmt.Errorf("invalid default: %w", err)
			}
			options[o.Name] = value
		}
	}
	for name := range set {
		if _, known := m.Option(name); !known {
			return nil, fmt.Errorf("--%s: unrecognized option", name)
		}
	}
	return options, nil
}

// parse reads a value as lightningd reads it on its command line.
func (o Option) parse(text string) (any, error) {
	switch o.Type {
	case "string", "string-conceal":
		return text, nil
	case "int":
		n, err := strconv.ParseInt(text, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("--%s: '%s' is not a number", o.Name, text)
		}
		return n, nil
	case "bool":
		switch strings.ToLower(text) {
		case "true", "yes":
			return true, nil
		case "false", "no":
			return false, nil
		}
		return nil, fmt.Errorf("--%s: '%s' is not a boolean", o.Name, text)
	case "flag":
		return true, nil
	}
	return nil, fmt.Errorf(`--%s: only "string", "int", "bool", and "flag" options are supported, not %q`, o.Name, o.Type)
}

// unquote is how lightningd keeps a default: the token's text, for a string
// without its quotes.
func unquote(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
