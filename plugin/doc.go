// Package plugin talks to lightningd: manifest, options, tracestats, logging and
// an orderly end, on top of glightning.
//
// glightning is kept behind two pipes (see wire.go). It sees neither the real
// stdin nor the real stdout, so nothing that it prints can corrupt lightningd's
// pipe, and no input that it gives up on can end the process.
//
// The package takes lightningd's requests and the environment, and produces
// answers and a running collector. Notifications about payments, forwards and blocks
// go to the collector as events, in their order (notifications.go). It knows nothing of datagrams, and the
// collector knows nothing of JSON-RPC: what can be set is in package options.
// Requests of more than maxRequest bytes are refused, at most maxInFlight wait for
// their answers, and at most maxLogLines log lines wait while lightningd does not
// read them.
//
// Begin with lifecycle.go, which covers everything from the first byte to the
// exit. clntrace/tests describes how the whole is tested.
package plugin
