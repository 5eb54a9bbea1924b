// Package plugin talks to lightningd: manifest, options, tracestats, logging and
// an orderly end, on top of glightning.
//
// glightning is kept behind two pipes (see wire.go). It sees neither the real
// stdin nor the real stdout, so nothing that it prints can corrupt lightningd's
// pipe, and no input that it gives up on can end the process.
//
// The package takes lightningd's requests and the environment, and produces
// answers and a running collector. It knows nothing of datagrams, and the
// collector knows nothing of options: manifest, configuration, help and manual
// all come from the table in options.go. Requests of more than maxRequest bytes
// are refused, at most maxInFlight wait for their answers, and at most
// maxLogLines log lines wait while lightningd does not read them.
//
// Begin with lifecycle.go, which covers everything from the first byte to the
// exit; collect.go runs the same collector without lightningd. This is the last
// package of the tour; clntrace/tests describes how the whole is tested.
package plugin
