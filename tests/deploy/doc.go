// Package deploy holds ways to deploy clntrace, a folder each, and the tests
// that try them as far as that is possible without the service manager, engine
// or cluster that they are for: what a recipe starts is started, with the
// recipe's own arguments, user, limits and paths; what it declares is read by
// the code that reads it in earnest, where there is such code to be had.
//
// CONTAINER_ENGINE is the command of a container engine for the one test that
// starts containers, such as docker or podman.
// OTELCOL_CONTRIB names an OpenTelemetry Collector (contrib) for the one test
// that needs more of it than can be built here.
package deploy
