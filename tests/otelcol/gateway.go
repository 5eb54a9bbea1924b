//go:build gateway

package main

import "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/loadbalancingexporter"

// The load-balancing exporter brings the clients of Kubernetes and of a cloud,
// which take longer to build than all the rest, and memory.
func init() { exporters = append(exporters, loadbalancingexporter.NewFactory()) }
