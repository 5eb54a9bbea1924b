// Package lightningdtest stands in for lightningd v26.06: it starts a plugin
// as lightningd does, speaks the plugin protocol with it over its standard
// input and output, byte for byte, answers its RPC calls, and has processes of
// other names send trace datagrams to it.
//
// The test decides on the order of things: nothing is sent to the plugin, not even
// getmanifest, before the test says so. If the plugin does what no plugin may, such
// as writing to standard output what is not protocol, the test fails at its end.
package lightningdtest
