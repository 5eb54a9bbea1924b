package collector

import (
	"fmt"
	"os"

	"go.opentelemetry.io/otel/sdk/resource"

	"clntrace/collector/export"
	"clntrace/collector/metrics"
	"clntrace/collector/payments"
	"clntrace/collector/process"
	"clntrace/collector/stats"
)

// startMetrics begins to send metrics, and to serve scrapes, if they are wanted. c.mu is
// held.
func (c *Collector) startMetrics() {
	if !c.cfg.Metrics && c.cfg.PrometheusListen == "" {
		return
	}
	o := metrics.Options{
		Send: c.cfg.Metrics, Config: c.cfg.Config.Config, Listen: c.cfg.PrometheusListen, MayServe: c.mayServe, Yield: c.yield,
		ServiceName: c.cfg.ServiceName, Version: c.options.Version,
		Logger: c.log, Voice: c.options.Voice, Resource: c.ownResource(Node{}),
		Counts:        func() stats.Counts { return c.counts(c.socketStatus()) },
		SpoolBytes:    func() int64 { return c.pipeline.Spool().Bytes },
		Payments:      c.exportedPayments,
		Hides:         func(span, detail string) bool { return c.policy.Load().Hides(span, detail) },
		HidesPayments: func() bool { return c.policy.Load().Payments() < payments.Outcomes },
	}
	if r := c.recorder.Load(); r != nil {
		o.Retain = r.Retain
	}
	m, err := metrics.Start(o)
	if err != nil {
		c.unsent = fmt.Errorf("none are sent, %w", err)
		c.log.Error(fmt.Sprintf("metrics: %v", c.unsent))
	}
	c.metrics.Store(m)
}

// mayServe reports whether a scrape may be answered: not with options that cannot be
// used, for one of them may have been meant to hold something back.
func (c *Collector) mayServe() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.problems) == 0
}

// ownResource is clntrace itself, as the sender of metrics. c.mu is held.
func (c *Collector) ownResource(n Node) *resource.Resource {
	n.Version = c.options.Version                                                    // the metrics are clntrace's, not lightningd's
	self := process.Identity{Name: "clntrace", Known: true, PID: int32(os.Getpid())} //nolint:gosec // pids fit
	return export.ResourceOf(c.cfg.Config, n, &self)
}

// moveMetrics sends metrics to the endpoint that spans now go to. c.mu is held.
func (c *Collector) moveMetrics() {
	m := c.metrics.Load()
	if m == nil {
		return
	}
	if !c.cfg.Metrics {
		return
	}
	c.unsent = nil
	if err := m.Use(c.cfg.Config.Config); err != nil {
		c.unsent = fmt.Errorf("they still go to the last endpoint, %w", err)
		c.log.Error(fmt.Sprintf("metrics: %v", c.unsent))
	}
}
