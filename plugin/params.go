package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	allowed := "must be one of " + strings.Join(names, ", ")
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
		return nil, paramErrorf("%s: got %d parameters, must be at most %d: %s", method, len(byPosition), len(names), strings.Join(names, ", "))
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
		return "", errors.New("must be a single value")
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

// setParams calls the setter of each parameter that is given. Each error names the
// parameter, what it got and what is allowed.
func setParams(method string, names []string, params json.RawMessage, setters map[string]func(string) error) error {
	given, err := nameParams(method, names, params)
	if err != nil {
		return err
	}
	for _, name := range names {
		raw, ok := given[name]
		if !ok || string(raw) == "null" {
			continue // null stands for a parameter left out, to reach a later one by position
		}
		value, err := scalar(raw)
		if err == nil {
			err = setters[name](value)
		}
		if err != nil {
			return paramErrorf("%s: %s: got '%s', %w", method, name, text.Quotable(shownValue(raw)), err)
		}
	}
	return nil
}

// Bounds of parameters that several commands have.
const (
	defaultLimit = 20
	maxLimit     = 100_000 // far above what the collector keeps
	maxMatch     = 200     // bytes; the longest name and detail are shorter
)

func setLimit(limit *int, s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxLimit {
		return fmt.Errorf("must be a whole number from 0 to %d", maxLimit)
	}
	*limit = n
	return nil
}

func setSort[K ~string](key *K, allowed []K, s string) error {
	if *key = K(s); slices.Contains(allowed, *key) {
		return nil
	}
	var names []string
	for _, k := range allowed {
		names = append(names, string(k))
	}
	return errors.New("must be one of " + strings.Join(names, ", "))
}

func setMatch(match *string, s string) error {
	if len(s) > maxMatch {
		return fmt.Errorf("must be text of at most %d bytes", maxMatch)
	}
	*match = s
	return nil
}

func setFormat(table *bool, s string) error {
	switch s {
	case "json", "table":
		*table = s == "table"
		return nil
	}
	return errors.New("must be json or table")
}
