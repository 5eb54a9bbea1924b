// Package deploy contains recipes for deploying clntrace, one folder each, and
// tests that try them as far as possible without the service manager, container
// engine or cluster that they are for. The tests run what a recipe runs, with the
// recipe's own arguments, user, limits and paths, and have its declarations parsed
// by the same code that will parse them in production, where that can be imported.
//
// Variables name what further tests need. CONTAINER_ENGINE is the command of a
// container engine, such as docker or podman, for the test that starts containers.
// TEMPO is a Grafana Tempo, to which the fleet's tests then also send what they keep
// and ask for it. OTELCOL_CONTRIB is a Collector with the load-balancing exporter, for
// the fleet's gateway: without one its tests are skipped.
package deploy
