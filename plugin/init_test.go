package plugin

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"clntrace/collector/options"
	"clntrace/collector/voice"
)

func TestGivenOptions(t *testing.T) {
	raw := map[string]json.RawMessage{
		"clntrace-sample-ratio":   json.RawMessage(`0.5`),
		"clntrace-queue-size":     json.RawMessage(`"0x400"`),
		"clntrace-metrics":        json.RawMessage(`true`),
		"clntrace-service-name":   json.RawMessage(`"a\u0062"`),
		"clntrace-otlp-endpoint":  json.RawMessage(`null`),
		"clntrace-drop-spans":     json.RawMessage(`["a"]`),
		"clntrace-otlp-headers":   json.RawMessage(`{"hunter2":1}`),
		"clntrace-of-the-future":  json.RawMessage(`1`),
		"clntrace-group-requests": json.RawMessage(`false`),
	}
	given, faults := givenOptions(raw)
	want := map[string]string{"sample-ratio": "0.5", "queue-size": "0x400", "metrics": "true", "service-name": "ab", "group-requests": "false"}
	if !reflect.DeepEqual(given, want) {
		t.Errorf("got %v, want %v", given, want)
	}
	wantFaults := []string{
		"clntrace-drop-spans: got '['a']', must be a single value. Correct it in lightningd's configuration, and until the next restart with 'lightning-cli -k setconfig config=clntrace-drop-spans val=VALUE transient=true'",
		"clntrace-otlp-headers: must be a single value. Correct it in lightningd's configuration, and until the next restart with 'lightning-cli -k setconfig config=clntrace-otlp-headers val=VALUE transient=true'",
	}
	if got := sentences(faults); !reflect.DeepEqual(got, wantFaults) {
		t.Errorf("got %q, want %q", got, wantFaults)
	}
}

// What to do about a fault differs by where the value came from: an option that can
// change takes no restart of the node.
func TestFaultsComeWithTheirRemedy(t *testing.T) {
	s := options.Settings{
		Given: map[string]string{"sample-ratio": "2", "batch-delay": "5"},
		Getenv: func(name string) string {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "x"}[name]
		},
		Voice: voice.Plugin,
	}
	_, faults := s.Resolve()
	want := map[string]string{
		"otlp-endpoint": "Correct it in lightningd's environment and restart the node",
		"sample-ratio":  "Correct it in lightningd's configuration, and until the next restart with 'lightning-cli -k setconfig config=clntrace-sample-ratio val=VALUE transient=true'",
		"batch-delay":   "Correct it in lightningd's configuration and restart the node",
	}
	if len(faults) != len(want) {
		t.Fatalf("faults: %q", sentences(faults))
	}
	for i, f := range faults {
		if got := sentences(faults)[i]; got != f.Text+". "+want[f.Option] {
			t.Errorf("got %q", got)
		}
	}
}

func TestVariablesSetInVainAreNamed(t *testing.T) {
	n := startNode(t, false)
	n.plugin.environ = func() []string { return []string{"OTEL_SERVICE_NAME=x", "OTEL_PROPAGATORS=b3"} }
	n.send(fmt.Sprintf(msgInit, ""))
	n.answer()
	if got, want := n.log("not honoured"), "info variables of the environment that are not honoured: OTEL_PROPAGATORS (lightningd makes the ids)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
