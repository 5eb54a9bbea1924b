package help

import (
	"strings"
	"testing"
)

func TestPage(t *testing.T) {
	m := Manual{{"collect", "about collect\n"}, {"options", "all\n"}}
	for _, tc := range []struct {
		words, page, err string // parts
	}{
		{"", "Help on: collect, options,\nor the name of an option", ""},
		{"collect", "about collect", ""},
		{"otlp-endpoint", "  clntrace-otlp-endpoint=string (dynamic)\n", ""},
		{"clntrace-otlp-endpoint", "With clntrace collect: --otlp-endpoint\n", ""},
		{"--sample-ratio", "  clntrace-sample-ratio=string (dynamic)\n", ""},
		{"colect", "", "there is no help on 'colect'; see 'clntrace help collect'"},
		{"endpoint", "", "see 'clntrace help otlp-endpoint'"},
		{"collect now", "", "there is no help on 'collect now'; see 'clntrace help'"},
		{"xyzzy\x1b[2J", "", "there is no help on 'xyzzy?[2J'; see 'clntrace help'"},
	} {
		page, err := m.Page(strings.Fields(tc.words))
		if !strings.Contains(page, tc.page) || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("help on %q: got %q, %v", tc.words, page, err)
		}
		for line := range strings.SplitSeq(page, "\n") {
			if len(line) > 80 {
				t.Errorf("wider than a terminal: %s", line)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"collect", "demo", "version", "otlp-endpoint", "otlp-timeout", "spool-dir", "spool-size"}
	for word, want := range map[string]string{
		"colect": "collect", "demos": "demo", "Version": "version",
		"otlp-endpiont": "otlp-endpoint", "endpoint": "otlp-endpoint",
		"spool": "", "otlp": "", "frobnicate": "", "": "", "d": "", "dir": "spool-dir",
	} {
		if got, found := Nearest(word, names); got != want || found != (want != "") {
			t.Errorf("nearest to %q is %q, want %q", word, got, want)
		}
	}
}
