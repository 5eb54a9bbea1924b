package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"clntrace/collector/stats"
	"clntrace/collector/text"
)

const (
	statsMethod = "tracestats"
	// statsUsage is all that lightning-cli help shows of a plugin's command; it is
	// printed as it is.
	statsUsage = "[limit] [sort] [match] [reset] [format]\n" + statsAbout + ".\n" + statsHelp
	statsAbout = "Show what clntrace receives, exports and loses, and what lightningd spends its time on"
	statsHelp  = "  limit   rows of operations at most, 0 for none (default 20)\n" +
		"  sort    total (default), count, avg, p99, max or errors, largest first\n" +
		"  match   only operations whose process, span or detail holds this text\n" +
		"  reset   true: the operations start anew after this answer (default false)\n" +
		"  format  json (default), or table: the same numbers for a terminal"

	defaultLimit = 20
	maxLimit     = 100_000 // far above what the collector keeps
	maxMatch     = 200     // bytes; the longest name and detail are shorter
)

// statsParams are the parameters of tracestats, by position.
var statsParams = []string{"limit", "sort", "match", "reset", "format"}

// statsRequest is a call of tracestats.
type statsRequest struct {
	stats.Query
	table bool
}

// statsTable is the answer to format=table. With the hint "simple", lightning-cli
// removes the hint and prints the only member that is left, without its name and
// with real line breaks.
type statsTable struct {
	FormatHint string `json:"format-hint"`
	Table      string `json:"table"`
}

// answerStats serves tracestats.
func answerStats(source interface {
	Stats(stats.Query) stats.Report
}, params json.RawMessage) (any, error) {
	req, err := parseStats(params)
	if err != nil {
		return nil, err
	}
	report := source.Stats(req.Query)
	if !req.table {
		return report, nil
	}
	var text bytes.Buffer
	if err := report.WriteTable(&text); err != nil {
		return nil, fmt.Errorf("writing the table: %w", err)
	}
	return statsTable{FormatHint: "simple", Table: strings.TrimRight(text.String(), "\n")}, nil
}

// parseStats reads the parameters of tracestats, by position or by name.
// Each error names the parameter, what it got and what is allowed.
func parseStats(params json.RawMessage) (statsRequest, error) {
	req := statsRequest{Query: stats.Query{Limit: defaultLimit, Sort: stats.SortTotal}}
	given, err := nameParams(statsMethod, statsParams, params)
	if err != nil {
		return req, err
	}
	setters := map[string]func(string) error{
		"limit":  req.setLimit,
		"sort":   req.setSort,
		"match":  req.setMatch,
		"reset":  req.setReset,
		"format": req.setFormat,
	}
	for _, name := range statsParams {
		raw, ok := given[name]
		if !ok || string(raw) == "null" {
			continue // null stands for a parameter left out, to reach a later one by position
		}
		value, err := scalar(raw)
		if err == nil {
			err = setters[name](value)
		}
		if err != nil {
			return req, paramErrorf("%s: %s: got '%s', %w", statsMethod, name, text.Quotable(shownValue(raw)), err)
		}
	}
	return req, nil
}

func (r *statsRequest) setLimit(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxLimit {
		return fmt.Errorf("allowed is a whole number from 0 to %d", maxLimit)
	}
	r.Limit = n
	return nil
}

func (r *statsRequest) setSort(s string) error {
	if r.Sort = stats.SortKey(s); slices.Contains(stats.SortKeys, r.Sort) {
		return nil
	}
	var keys []string
	for _, k := range stats.SortKeys {
		keys = append(keys, string(k))
	}
	return errors.New("allowed are " + strings.Join(keys, ", "))
}

func (r *statsRequest) setMatch(s string) error {
	if len(s) > maxMatch {
		return fmt.Errorf("allowed is text of at most %d bytes", maxMatch)
	}
	r.Match = s
	return nil
}

func (r *statsRequest) setReset(s string) error {
	switch s {
	case "true", "false":
		r.Reset = s == "true"
		return nil
	}
	return errors.New("allowed are true and false")
}

func (r *statsRequest) setFormat(s string) error {
	switch s {
	case "json", "table":
		r.table = s == "table"
		return nil
	}
	return errors.New("allowed are json and table")
}
