// Package tests tests the clntrace plugin end to end: the built executable,
// started as lightningd starts it, receives real datagrams from real processes
// and exports them to a real OTLP receiver.
//
// The tests run on Linux. Those that need other users are skipped unless they run as
// root.
//
// CLNTRACE_BINARY names an executable to test instead of building one. LIGHTNINGD
// names a lightningd for the tests that need one, if there is none in the PATH. JAEGER,
// VICTORIATRACES and TEMPO name backends, for TestBackends.
//
// The tests use three packages: lightningdtest is a node around the plugin, otlptest
// an endpoint behind it, and recording contains what a node sends. Of the others,
// bench compares clntrace with its peers, deploy tries the recipes for deployment,
// and release builds what is published.
package tests
