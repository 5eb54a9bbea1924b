//go:build linux

package deploy

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
)

// longestPath is how much of CLN_TRACE_SOCKET lightningd uses, in bytes.
const longestPath = 107

// pluginOptions are the options of the plugin on lightningd's command line.
func pluginOptions(t *testing.T, args []string) map[string]string {
	t.Helper()
	options := map[string]string{}
	for _, arg := range args {
		if name, value, ok := strings.Cut(strings.TrimPrefix(arg, "--"), "="); ok && strings.HasPrefix(name, "clntrace-") {
			options[name] = value
		}
	}
	return options
}

// runPlugin starts the plugin with the socket and the options of a recipe, and
// sends it a span. All that is replaced is the root of the path and the
// endpoint, whose receiver it returns.
func runPlugin(t *testing.T, socket string, options map[string]string) []otlptest.Span {
	t.Helper()
	if len(socket) > longestPath || !filepath.IsAbs(socket) {
		t.Fatalf("CLN_TRACE_SOCKET=%s has %d bytes, want an absolute path of at most %d", socket, len(socket), longestPath)
	}
	r := otlptest.Start(t)
	options["clntrace-otlp-endpoint"] = r.GRPCEndpoint()
	n := lightningdtest.Start(t, lightningdtest.Config{
		Plugin: clntrace, Options: options, TraceSocket: filepath.Join(lightningdtest.Dir(t), filepath.Base(socket)),
	})
	n.GetManifest()
	n.Init()
	if err := n.Senders(sender).Start("lightningd").SendPatiently(recording.Numbered("extend_tip", 1, 1)...); err != nil {
		t.Fatal(err)
	}
	spans := r.WaitSpans(t, 1)
	answer, err := n.Call("tracestats", map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	var stats struct{ Status string }
	if err := json.Unmarshal(answer, &stats); err != nil || stats.Status != "ok" {
		t.Errorf("status %q (%v): %s", stats.Status, err, answer)
	}
	return spans
}
