// Package tests tests the clntrace plugin end to end: the built executable,
// started as lightningd starts it, receives real datagrams from real processes
// and exports them to a real OTLP receiver.
//
// They run on Linux. Those that need other users than the one they run as are
// skipped unless that one is root.
//
// CLNTRACE_BINARY names an executable to test instead of building one;
// LIGHTNINGD names a lightningd for the tests that need one, if none is in the
// PATH.
//
// They use lightningdtest, a node around the plugin, otlptest, an endpoint behind
// it, and recording, what a node sends. Beside them, bench compares clntrace with
// its peers, deploy tries the recipes for its deployment, and release builds what
// is published.
package tests
