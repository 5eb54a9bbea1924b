package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"clntrace/collector"
	"clntrace/collector/options"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

// prefix begins every option's name in lightningd's configuration.
var prefix = voice.Plugin.Option("")

// initParams is the part of init's parameters that is used.
type initParams struct {
	Options       map[string]json.RawMessage `json:"options"`
	Configuration struct {
		LightningDir string `json:"lightning-dir"` // that of the network
		RPCFile      string `json:"rpc-file"`
		Network      string `json:"network"`
	} `json:"configuration"`
}

// init starts the export. It never answers with an error, whatever the options
// are: the node must not lose the plugin, and with it the options in its
// configuration, over a typo.
func (p *plugin) init(params json.RawMessage) (any, error) {
	if p.settings.Given != nil {
		return nil, errors.New("init: it was answered before")
	}
	var req initParams
	var problems []string
	if err := json.Unmarshal(params, &req); err != nil {
		problems = append(problems, text.ASCII(fmt.Sprintf("lightningd's init cannot be read (%v), must be what lightningd 26.06 sends", err)))
	}
	given, faults := givenOptions(req.Options)
	p.settings = options.Settings{Given: given, Getenv: p.getenv, Voice: voice.Plugin, Dir: req.Configuration.LightningDir}
	cfg, more := p.settings.Resolve()
	problems = append(problems, sentences(append(faults, more...))...)
	for i, problem := range problems {
		if i == len(problems)-1 {
			problem += ". " + collector.UntilCorrected
		}
		p.log.Error(problem)
	}
	if deaf := options.Deaf(p.environ()); deaf != "" {
		p.log.Info(deaf)
	}
	p.spans.Start(cfg, problems)
	if rpcFile := req.Configuration.RPCFile; rpcFile != "" {
		if !filepath.IsAbs(rpcFile) {
			rpcFile = filepath.Join(req.Configuration.LightningDir, rpcFile)
		}
		known := collector.Node{Network: req.Configuration.Network, Version: p.nodeVersion}
		p.work.Go(func() {
			p.identify(p.ending, rpcFile, known)
			// Not earlier: until then lightningd waits for our answers.
			if p.ending.Err() == nil {
				p.spans.PreferReceiving()
				p.learnConfiguration(rpcFile, req.Configuration.LightningDir)
			}
		})
	}
	return struct{}{}, nil
}

// givenOptions returns the options of init by their names without prefix. One
// that is not in the table is skipped: it would be lightningd's mistake, not the
// operator's.
func givenOptions(raw map[string]json.RawMessage) (map[string]string, []options.Fault) {
	given := make(map[string]string)
	var faults []options.Fault
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		o, ok := options.Named(strings.TrimPrefix(name, prefix))
		if !ok || string(raw[name]) == "null" {
			continue
		}
		value, err := scalar(raw[name])
		if err != nil {
			faults = append(faults, o.Refuse(name, shownValue(raw[name]), err))
			continue
		}
		given[o.Name] = value
	}
	return given, faults
}

// sentences returns the texts of faults, each with its remedy.
func sentences(faults []options.Fault) []string {
	var list []string
	for _, f := range faults {
		list = append(list, f.Text+". "+remedy(f))
	}
	return list
}

// remedy says how the operator of a node corrects f. lightningd reads its
// configuration and its environment only once, at its start, so restarting
// clntrace alone is not enough.
func remedy(f options.Fault) string {
	if f.Source != prefix+f.Option {
		return "Correct it in lightningd's environment and restart the node"
	}
	o, _ := options.Named(f.Option)
	return voice.Plugin.Correct(f.Option, o.Dynamic)
}
