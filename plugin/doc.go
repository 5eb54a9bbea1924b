// Package plugin is the conversation with lightningd: manifest, options,
// tracestats, logging and an orderly end, on top of glightning.
//
// glightning is kept behind two pipes (see wire.go). It knows neither the real
// stdin nor the real stdout, so nothing that it prints or gives up on can
// corrupt lightningd's pipe or end the process.
package plugin
