package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"clntrace/collector/stats"
)

const (
	statsMethod = "tracestats"
	// statsUsage is all that lightning-cli help shows of a plugin's command; it is
	// printed as it is.
	statsUsage = "[limit] [sort] [match] [reset] [format]\n" + statsAbout + ".\n" + statsHelp
	statsAbout = "Show what clntrace gets, exports and loses, and where lightningd's time goes"
	statsHelp  = "  limit   rows of operations, 0 to 100000 (default 20); 0: none, only the state\n" +
		"  sort    total (default), count, avg, p99, max or errors, largest first\n" +
		"  match   only operations whose process, span, detail or WHAT holds this\n" +
		"  reset   true: the operations start anew after this answer (default false)\n" +
		"  format  json (default), or table: the same numbers for a terminal"
)

// StatsHelp is the help on tracestats for a terminal.
const StatsHelp = "Usage: lightning-cli " + statsMethod + " " + statsUsage + "\n"

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
func (p *plugin) answerStats(params json.RawMessage) (any, error) {
	req, err := parseStats(params)
	if err != nil {
		return nil, err
	}
	report := p.spans.Stats(req.Query)
	if warning := p.leftovers.warning(); warning != "" {
		report.Warnings = append([]string{warning}, report.Warnings...)
	}
	if !req.table {
		return report, nil
	}
	var table bytes.Buffer
	if err := report.WriteTable(&table); err != nil {
		return nil, fmt.Errorf("writing the table: %w", err)
	}
	return statsTable{FormatHint: "simple", Table: strings.TrimRight(table.String(), "\n")}, nil
}

// parseStats reads the parameters of tracestats, by position or by name.
// Each error names the parameter, what it got and what is allowed.
func parseStats(params json.RawMessage) (statsRequest, error) {
	req := statsRequest{Query: stats.Query{Limit: defaultLimit, Sort: stats.SortTotal}}
	err := setParams(statsMethod, statsParams, params, map[string]func(string) error{
		"limit":  func(s string) error { return setLimit(&req.Limit, s) },
		"sort":   func(s string) error { return setSort(&req.Sort, stats.SortKeys, s) },
		"match":  func(s string) error { return setMatch(&req.Match, s) },
		"reset":  req.setReset,
		"format": func(s string) error { return setFormat(&req.table, s) },
	})
	return req, err
}

func (r *statsRequest) setReset(s string) error {
	switch s {
	case "true", "false":
		r.Reset = s == "true"
		return nil
	}
	return errors.New("must be true or false")
}
