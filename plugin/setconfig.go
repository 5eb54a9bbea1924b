package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode"

	"clntrace/collector/options"
	"clntrace/collector/text"
)

// setConfig changes one option, or refuses to. lightningd writes what we accept
// into its own configuration.
func (p *plugin) setConfig(params json.RawMessage) (any, error) {
	changed, cfg, faults, err := p.changed("setconfig", params)
	if err != nil {
		return nil, err
	}
	if err := p.spans.Reconfigure(cfg, sentences(faults)); err != nil {
		return nil, errors.New(text.Sentence(err.Error()))
	}
	p.settings = changed
	time.AfterFunc(writeTime, p.logLeftovers)
	return struct{}{}, nil
}

// changed returns the settings as they would be after a setconfig, the
// configuration that results, and the faults of other options. The error says why
// the change is refused.
func (p *plugin) changed(method string, params json.RawMessage) (options.Settings, options.Config, []options.Fault, error) {
	fail := func(format string, args ...any) (options.Settings, options.Config, []options.Fault, error) {
		return options.Settings{}, options.Config{}, nil, fmt.Errorf(format, args...)
	}
	given, err := nameParams(method, []string{"config", "val", "transient"}, params)
	if err != nil {
		return fail("%w", err)
	}
	name, err := scalar(given["config"])
	if err != nil {
		return fail("%s: config: %w", method, err)
	}
	o, ok := options.Named(strings.TrimPrefix(name, prefix))
	if !ok || !strings.HasPrefix(name, prefix) {
		return fail("%s: '%s' is not an option of clntrace", method, text.Quotable(name))
	}
	if !o.Dynamic {
		return fail("%s cannot change while the node runs; set it in lightningd's configuration and restart the node", name)
	}
	value, err := scalar(given["val"])
	if err != nil {
		return fail("%s: val: %w", name, err)
	}
	// A line break would add lines to lightningd's configuration file.
	if strings.ContainsFunc(value, unicode.IsControl) {
		return fail("%s", o.Refuse(name, value, errors.New("must be text without control characters")).Text)
	}
	next := p.settings
	next.Given = maps.Clone(p.settings.Given)
	if next.Given == nil {
		return fail("%s: init has not come yet", method)
	}
	next.Given[o.Name] = value
	cfg, faults := next.Resolve()
	for _, f := range faults {
		if f.Option == o.Name {
			return fail("%s", f.Text)
		}
	}
	return next, cfg, faults, nil
}

// check says whether a setconfig or tracestats would be accepted, as lightningd
// does for its own commands.
func (p *plugin) check(params json.RawMessage) (any, error) {
	command, rest, err := checkedCommand(params)
	if err != nil {
		return nil, err
	}
	switch command {
	case "setconfig":
		_, _, _, err = p.changed(command, rest)
	case statsMethod:
		_, err = parseStats(rest)
	default:
		err = fmt.Errorf("check: '%s' is not a command of clntrace", text.Quotable(command))
	}
	if err != nil {
		return nil, err
	}
	return map[string]string{"command_to_check": command}, nil
}

// checkedCommand separates the command to check from its parameters.
func checkedCommand(params json.RawMessage) (string, json.RawMessage, error) {
	const field = "command_to_check"
	var command, rest json.RawMessage
	var byName map[string]json.RawMessage
	var byPosition []json.RawMessage
	var err error
	if json.Unmarshal(params, &byName) == nil {
		command = byName[field]
		delete(byName, field)
		rest, err = json.Marshal(byName)
	} else if json.Unmarshal(params, &byPosition) == nil && len(byPosition) > 0 {
		command = byPosition[0]
		rest, err = json.Marshal(byPosition[1:])
	}
	if err != nil {
		return "", nil, fmt.Errorf("check: %w", err)
	}
	name, err := scalar(command)
	if err != nil {
		return "", nil, errors.New("check: " + field + " is missing")
	}
	return name, rest, nil
}
