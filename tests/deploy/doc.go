// Package deploy contains recipes for deploying clntrace, one folder each, and
// tests that try them as far as possible without the service manager, container
// engine or cluster that they are for. The tests run what a recipe runs, with the
// recipe's own arguments, user, limits and paths, and have its declarations parsed
// by the same code that will parse them in production, where that can be imported.
//
// Two variables enable further tests. CONTAINER_ENGINE is the command of a
// container engine, such as docker or podman, for the test that starts containers.
// OTELCOL_CONTRIB names an OpenTelemetry Collector (contrib), for the test that
// needs components which cannot be built here.
package deploy
