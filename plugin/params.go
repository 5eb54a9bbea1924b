package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"clntrace/collector/text"
)

// paramError is an error about the parameters of a call, for which JSON-RPC has
// a code of its own.
type paramError struct{ error }

func (e paramError) Unwrap() error { return e.error }

func paramErrorf(format string, args ...any) error { return paramError{fmt.Errorf(format, args...)} }

// nameParams returns parameters by name, whether they came by name or by
// position. names are those allowed, in the order of their positions.
func nameParams(method string, names []string, params json.RawMessage) (map[string]json.RawMessage, error) {
	allowed := "allowed are " + strings.Join(names, ", ")
	var byName map[string]json.RawMessage
	if len(params) == 0 || json.Unmarshal(params, &byName) == nil {
		for name := range byName {
			if !slices.Contains(names, name) {
				return nil, paramErrorf("%s: unknown parameter '%s', %s", method, text.Quotable(name), allowed)
			}
		}
		return byName, nil
	}
	var byPosition []json.RawMessage
	if err := json.Unmarshal(params, &byPosition); err != nil {
		return nil, paramErrorf("%s: parameters are neither an object nor an array", method)
	}
	if len(byPosition) > len(names) {
		return nil, paramErrorf("%s: got %d parameters, %s", method, len(byPosition), allowed)
	}
	byName = make(map[string]json.RawMessage, len(byPosition))
	for i, raw := range byPosition {
		byName[names[i]] = raw
	}
	return byName, nil
}

// scalar returns a string, number or bool as text. lightning-cli guesses types
// from what was typed, so "20" and 20, or true and "true", must mean the same.
func scalar(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || string(raw) == "null" {
		return "", errors.New("allowed is a single value")
	}
	if raw[0] != '"' {
		return string(raw), nil
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// shownValue is raw as the user typed it.
func shownValue(raw json.RawMessage) string {
	if s, err := scalar(raw); err == nil {
		return s
	}
	return string(raw)
}
