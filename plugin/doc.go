// Package plugin is the conversation with lightningd: manifest, options,
// tracestats, logging and an orderly end, on top of glightning.
//
// glightning is kept behind two pipes (see wire.go). It knows neither the real
// stdin nor the real stdout, so nothing that it prints or gives up on can
// corrupt lightningd's pipe or end the process.
//
// It gets lightningd's requests and the environment, and gives answers and a
// running collector. It knows nothing of datagrams, and the collector nothing of
// options: the one table in options.go becomes manifest, configuration, help and
// manual. Requests over maxRequest bytes are refused, maxInFlight are answered
// at a time, and of log lines that lightningd does not read maxLogLines wait.
//
// Read lifecycle.go first: what happens from the first byte to the exit, and
// also collect.go, the same collector without lightningd. That is all of
// clntrace; clntrace/tests tells how it is tested as a whole.
package plugin
