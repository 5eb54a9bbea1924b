package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"clntrace/collector/recorder"
)

const (
	tracesMethod = "listtraces"
	// tracesUsage is what lightning-cli help shows.
	tracesUsage = "[id] [sort] [match] [limit] [format]\n" + tracesAbout + ".\n" + tracesHelp
	tracesAbout = "Show the slowest, the failed and the newest traces, or one of them as a tree"
	tracesHelp  = "  id      how a trace id or a payment hash begins: that trace, with its spans,\n" +
		"          or the list of those that begin so\n" +
		"  sort    slowest (default), recent, failed, or open: what is running now\n" +
		"  match   only traces with this in process, name, detail, error or payment hash\n" +
		"  limit   traces at most (default 20); 0: none, only how full the memory is\n" +
		"  format  json (default), or table: the same for a terminal"
)

// TracesHelp is the help on listtraces for a terminal.
const TracesHelp = "Usage: lightning-cli " + tracesMethod + " " + tracesUsage + "\n"

// tracesParams are the parameters of listtraces, by position.
var tracesParams = []string{"id", "sort", "match", "limit", "format"}

// tracesRequest is a call of listtraces.
type tracesRequest struct {
	recorder.Query
	table bool
}

// answerTraces serves listtraces.
func answerTraces(source interface {
	Traces(recorder.Query) (recorder.Answer, error)
}, params json.RawMessage) (any, error) {
	req, err := parseTraces(params)
	if err != nil {
		return nil, err
	}
	answer, err := source.Traces(req.Query)
	switch {
	case errors.Is(err, recorder.ErrNone):
		return nil, fmt.Errorf("%s: id: got '%s', but %w; 'lightning-cli listtraces' lists those that are kept, with a request some 5 s after its last span", tracesMethod, req.ID, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", tracesMethod, err)
	case !req.table:
		return answer, nil
	}
	var table bytes.Buffer
	if err := answer.WriteTable(&table); err != nil {
		return nil, fmt.Errorf("writing the table: %w", err)
	}
	if l, ok := answer.(recorder.List); ok && len(l.Traces) > 0 && l.Traces[0].TraceID != "" {
		fmt.Fprintf(&table, "One of them: lightning-cli listtraces id=%.8s format=table\n", l.Traces[0].ID())
	}
	return statsTable{FormatHint: "simple", Table: strings.TrimRight(table.String(), "\n")}, nil
}

// parseTraces reads the parameters of listtraces, by position or by name. Each error
// names the parameter, what it got and what is allowed.
func parseTraces(params json.RawMessage) (tracesRequest, error) {
	req := tracesRequest{Query: recorder.Query{Limit: defaultLimit, Sort: recorder.SortSlowest}}
	err := setParams(tracesMethod, tracesParams, params, map[string]func(string) error{
		"id":     req.setID,
		"sort":   func(s string) error { return setSort(&req.Sort, recorder.SortKeys, s) },
		"match":  func(s string) error { return setMatch(&req.Match, s) },
		"limit":  func(s string) error { return setLimit(&req.Limit, s) },
		"format": func(s string) error { return setFormat(&req.table, s) },
	})
	return req, err
}

func (r *tracesRequest) setID(s string) error {
	if !recorder.IsPrefix(s) {
		return errors.New("must be the beginning of a trace id or of a payment hash, in hexadecimal digits")
	}
	r.ID = s
	return nil
}
