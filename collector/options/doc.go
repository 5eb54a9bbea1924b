// Package options knows everything that an operator can set: the one table in
// table.go, from which the manifest, init and setconfig of the plugin, the flags of
// collect, the help and the README's manual are made.
//
// It takes values as an operator wrote them, from lightningd, the command line or the
// environment, and gives a Config that can be used, and what is wrong with the rest.
package options
