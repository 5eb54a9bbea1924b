// Package lightningdtest stands in for lightningd v26.06: it starts a plugin
// as lightningd does, speaks the plugin protocol with it over its standard
// input and output, byte for byte, answers its RPC calls, and has processes of
// other names send trace datagrams to it.
//
// A test owns the order of things: nothing is sent to the plugin, not even
// getmanifest, before the test says so. What the plugin may never do, such as
// a byte on standard output that is not protocol, fails the test at its end.
package lightningdtest
