package plugin

import (
	"encoding/json"

	"clntrace/collector/options"
	"clntrace/collector/voice"
)

// manifestOption is an option as getmanifest presents it.
type manifestOption struct {
	Name        string       `json:"name"`
	Type        options.Kind `json:"type"`
	Default     any          `json:"default,omitempty"`
	Description string       `json:"description"`
	Dynamic     bool         `json:"dynamic,omitempty"`
}

// rpcMethod is a command that clntrace adds to lightningd's. lightningd 26.06
// reads only name and usage; description and long_description are for tools that
// read manifests.
type rpcMethod struct {
	Name            string `json:"name"`
	Usage           string `json:"usage"`
	Description     string `json:"description"`
	LongDescription string `json:"long_description"`
}

// manifest is the answer to getmanifest. glightning's own cannot express dynamic,
// string-conceal, cancheck or the subscription to shutdown.
type manifest struct {
	Options       []manifestOption `json:"options"`
	RPCMethods    []rpcMethod      `json:"rpcmethods"`
	Subscriptions []string         `json:"subscriptions"`
	Dynamic       bool             `json:"dynamic"`
	CanCheck      bool             `json:"cancheck"`
	NonNumericIDs bool             `json:"nonnumericids"`
}

func newManifest() manifest {
	m := manifest{
		RPCMethods: []rpcMethod{
			{Name: statsMethod, Usage: statsUsage, Description: statsAbout, LongDescription: statsHelp},
			{Name: tracesMethod, Usage: tracesUsage, Description: tracesAbout, LongDescription: tracesHelp},
		},
		Subscriptions: subscriptions(),
		Dynamic:       true,
		CanCheck:      true,
		NonNumericIDs: true,
	}
	for _, o := range options.All() {
		m.Options = append(m.Options, announce(o))
	}
	return m
}

// announce presents o to lightningd. An option with an environment variable is
// announced without its default: lightningd would send the default at init as if
// the operator had set it, and the variable would never apply.
func announce(o options.Option) manifestOption {
	m := manifestOption{Name: prefix + o.Name, Type: o.Kind, Dynamic: o.Dynamic, Description: o.Text(voice.Plugin)}
	if o.Default == "" || o.HasVariables() {
		return m
	}
	m.Description = o.TextWithoutDefault(voice.Plugin)
	m.Default = o.Default
	if o.Kind == options.Int || o.Kind == options.Bool {
		m.Default = json.RawMessage(o.Default)
	}
	return m
}
