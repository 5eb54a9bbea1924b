package collector

import (
	"fmt"

	"clntrace/collector/metrics"
	"clntrace/collector/stats"
)

// startMetrics begins to send metrics if they are wanted. c.mu is held.
func (c *Collector) startMetrics() {
	if !c.cfg.Metrics {
		return
	}
	m, err := metrics.Start(metrics.Options{
		Config: c.cfg.Config, Version: c.options.Version, Logger: c.log,
		Counts:     func() stats.Counts { return c.counts(c.socketStatus()) },
		SpoolBytes: func() int64 { return c.pipeline.Spool().Bytes },
	})
	if err != nil {
		c.unsent = fmt.Errorf("none are sent, %w", err)
		c.log.Error(fmt.Sprintf("metrics: %v", c.unsent))
		return
	}
	c.metrics.Store(m)
}

// moveMetrics sends metrics to the endpoint that spans now go to. c.mu is held.
func (c *Collector) moveMetrics() {
	m := c.metrics.Load()
	if m == nil {
		return
	}
	c.unsent = nil
	if err := m.Use(c.cfg.Config); err != nil {
		c.unsent = fmt.Errorf("they still go to the last endpoint, %w", err)
		c.log.Error(fmt.Sprintf("metrics: %v", c.unsent))
	}
}
