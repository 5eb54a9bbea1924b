package tests

import (
	"maps"
	"testing"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
)

// config is a node's whose plugin exports to the receiver, soon and with the
// ids that came. set overrides and adds.
func config(r *otlptest.Receiver, set map[string]string) lightningdtest.Config {
	options := map[string]string{
		"clntrace-otlp-endpoint":  r.GRPCEndpoint(),
		"clntrace-group-requests": "false",
		"clntrace-batch-delay":    "50ms",
	}
	maps.Copy(options, set)
	return lightningdtest.Config{Plugin: clntrace, Options: options}
}

// launch starts a node and brings it through init.
func launch(t testing.TB, cfg lightningdtest.Config) *lightningdtest.Node {
	t.Helper()
	n := lightningdtest.Start(t, cfg)
	n.GetManifest()
	n.Init()
	return n
}

// launchWith is launch with a receiver, which it starts.
func launchWith(t testing.TB, set map[string]string) (*lightningdtest.Node, *otlptest.Receiver) {
	t.Helper()
	r := otlptest.Start(t)
	return launch(t, config(r, set)), r
}

func load(t testing.TB, name string) []recording.Datagram {
	t.Helper()
	d, err := recording.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// send sends payloads without loss.
func send(t testing.TB, s *lightningdtest.Sender, payloads ...[]byte) {
	t.Helper()
	if err := s.SendPatiently(payloads...); err != nil {
		t.Fatal(err)
	}
}

// endCleanly ends the plugin as lightningd does and expects what lightningd expects.
func endCleanly(t testing.TB, n *lightningdtest.Node) {
	t.Helper()
	n.Shutdown()
	if state := n.WaitExit(); !state.Success() {
		t.Errorf("after shutdown: %v", state)
	}
}
