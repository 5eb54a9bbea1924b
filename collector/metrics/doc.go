// Package metrics sends OTLP metrics, and lets Prometheus scrape them: how long the
// node's operations, requests, payments and forwards take, and what becomes of its
// spans. It counts every span, so its rates are exact whatever share of the traces is
// exported.
//
// Metrics go to the same endpoint as spans. If they fail, spans are not affected.
//
// The package takes the Observations of stats and gives OTLP, through the SDK's
// reader, every interval. It keeps at most maxSeries series, and counts everything
// else as (other). Prometheus gets fewer: no statements, and at most 2,000 of its time
// series. Both are meters of their own, because the SDK's readers share attributes.
//
// An exemplar is a span that has left the node or is in the recorder (examples.go).
package metrics
