package collector

import (
	"math"
	"time"

	"clntrace/collector/recorder"
	"clntrace/collector/socket"
	"clntrace/collector/stats"
)

// Stats reports on everything since Open.
func (c *Collector) Stats(q stats.Query) stats.Report {
	if c.receiver != nil {
		c.receiver.Sync() // the request that somebody asks about may have ended just now
	}
	f := c.facts(c.now())
	f.report.Match = q.Match
	f.report.Operations, f.report.MoreOperations = c.operations(q)
	f.report.Status, f.report.Warnings = diagnose(f)
	return f.report
}

// facts gathers what can be known at the time now.
func (c *Collector) facts(now time.Time) facts {
	f := facts{now: now, voice: c.options.Voice, link: c.socketStatus(), spool: c.pipeline.Spool()}
	f.report = c.report(f.link, now)
	f.report.Export, f.outage = c.pipeline.Status()
	f.rejected = now.Sub(f.report.Export.RejectedAt)
	values := c.countersOf(&f.link, f.spool)
	f.grew, f.waits = c.grown.observe(values, now), values[longWaits]
	f.longest, f.writing = c.waits.facts()
	f.unmatched = c.policy.Load().Unmatched()
	c.mu.Lock()
	f.config, f.problems, f.metrics.unsent = c.cfg, c.problems, c.unsent
	c.mu.Unlock()
	if m := c.metrics.Load(); m != nil {
		f.metrics.outage, f.metrics.reason = m.Outage()
		f.metrics.scrape = m.Scrape()
	}
	last := c.started
	if at := c.seen.lastSpan.Load(); at != 0 {
		last, f.spansCame = c.started.Add(time.Duration(at)), true
	}
	f.silent = now.Sub(last)
	if err := c.seen.lastMalformed.Load(); err != nil {
		f.malformed = *err
	}
	if err := c.seen.lastDefect.Load(); err != nil {
		f.defect = *err
	}
	return f
}

// report is the part of the report that counts and measures.
func (c *Collector) report(link socket.Status, now time.Time) stats.Report {
	counts := c.counts(link)
	r := stats.Report{
		Version:       c.options.Version,
		UptimeSeconds: int64(now.Sub(c.started).Seconds()),
		Socket: stats.Socket{
			Path: link.Path, State: "listening", QueueLimit: link.QueueLimit,
			QueueFullEvents: link.QueueFull + link.SenderFull, LargestDatagram: int(c.seen.largest.Load()),
		},
		Datagrams: stats.DatagramsOf(counts),
		Spans:     stats.SpansOf(counts),
		Processes: c.table.Processes(),
		Payments:  c.paymentState(now),
		Requests:  c.table.Requests(),
	}
	rate := max(c.ledger.Rate(now), link.Rate*share(counts)) // in a flood the ledger is behind
	r.Spans.RatePerSecond = math.Round(rate*10) / 10
	if !link.Listening {
		r.Socket.State = "not listening"
	}
	return r
}

// share is the share of spans among the datagrams that have been decoded.
func share(counts stats.Counts) float64 {
	return float64(counts.Accepted) / float64(max(counts.Accepted+counts.Malformed, 1))
}

// operations answers q, and returns how many more rows there are than q.Limit.
func (c *Collector) operations(q stats.Query) (rows []stats.Operation, more int) {
	limit := max(q.Limit, 0)
	q.Limit = 2 * (stats.MaxOperations + 1)
	rows = c.table.Operations(q, c.policy.Load().Hides)
	if limit < len(rows) {
		rows, more = rows[:limit], len(rows)-limit
	}
	c.addSlowest(rows)
	return rows, more
}

// addSlowest says where the slowest span of each row can be looked at.
func (c *Collector) addSlowest(rows []stats.Operation) {
	r := c.recorder.Load()
	if r == nil || len(rows) == 0 {
		return
	}
	all := r.Slowest(c.now())
	for i := range rows {
		o := &rows[i]
		if s, ok := all[recorder.Operation{Process: o.Process, Span: o.Span, Detail: o.Detail}]; ok {
			o.Slowest = &stats.Slowest{TraceID: s.TraceID, StartedAt: s.StartedAt}
		}
	}
}

// counts adds to the ledger what the receiver has dropped or refused before
// decoding. Each identity gets the same number on both sides, so it still holds.
func (c *Collector) counts(link socket.Status) stats.Counts {
	dropped, refused := int64(link.Dropped), int64(link.Refused) //nolint:gosec // no counter comes near the limit
	return c.ledger.Counts().Add(stats.Counts{
		Received: dropped + refused, Bytes: int64(link.DroppedBytes + link.RefusedBytes), //nolint:gosec // as above
		Refused: refused, Accepted: dropped, DroppedQueueFull: dropped,
	})
}

func (c *Collector) socketStatus() socket.Status {
	if c.receiver == nil {
		return socket.Status{Path: c.options.SocketPath, Problem: c.options.SocketProblem}
	}
	return c.receiver.Status()
}
