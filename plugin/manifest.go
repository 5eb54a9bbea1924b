package plugin

import "encoding/json"

// manifestOption is an option as getmanifest presents it.
type manifestOption struct {
	Name        string `json:"name"`
	Type        kind   `json:"type"`
	Default     any    `json:"default,omitempty"`
	Description string `json:"description"`
	Dynamic     bool   `json:"dynamic,omitempty"`
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
		RPCMethods: []rpcMethod{{
			Name:            statsMethod,
			Usage:           statsUsage,
			Description:     statsAbout,
			LongDescription: statsHelp,
		}},
		Subscriptions: []string{"shutdown"},
		Dynamic:       true,
		CanCheck:      true,
		NonNumericIDs: true,
	}
	for _, o := range options {
		m.Options = append(m.Options, o.manifest())
	}
	return m
}

// manifest presents o to lightningd. An option with an environment variable is
// announced without its default: lightningd would send the default at init as if
// the operator had set it, and the variable would never apply.
func (o option) manifest() manifestOption {
	m := manifestOption{Name: prefix + o.name, Type: o.kind, Dynamic: o.dynamic, Description: o.plainDoc()}
	if o.def == "" || len(o.env) > 0 {
		return m
	}
	m.Description = plain(o.doc) // lightningd shows the default itself
	m.Default = o.def
	if o.kind == kindInt || o.kind == kindBool {
		m.Default = json.RawMessage(o.def)
	}
	return m
}
