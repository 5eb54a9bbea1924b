package collector

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/export"
	"clntrace/collector/socket"
	"clntrace/collector/spool"
	"clntrace/collector/stats"
	"clntrace/collector/text"
)

// Stats reports on everything since Open.
func (c *Collector) Stats(q stats.Query) stats.Report {
	now := c.now()
	link := c.socketStatus()
	endpoint, outage := c.pipeline.Status()
	counts := c.counts(link)
	r := stats.Report{
		Version:       c.options.Version,
		UptimeSeconds: int64(now.Sub(c.started).Seconds()),
		Socket: stats.Socket{
			Path: link.Path, State: "listening", QueueLimit: link.QueueLimit,
			QueueFullEvents: link.QueueFull + link.SenderFull, LargestDatagram: int(c.largest.Load()),
		},
		Datagrams: stats.DatagramsOf(counts),
		Spans:     stats.SpansOf(counts),
		Export:    endpoint,
		Processes: c.table.Processes(),
	}
	r.Operations, r.MoreOperations = c.operations(q)
	r.Spans.RatePerSecond = c.ledger.Rate(now)
	if !link.Listening {
		r.Socket.State = "not listening"
	}
	r.Status, r.Warnings = c.judge(&r, link, outage, now)
	return r
}

// operations answers q, and tells how many rows its limit leaves out.
func (c *Collector) operations(q stats.Query) (rows []stats.Operation, more int) {
	limit := max(q.Limit, 0)
	q.Limit = stats.MaxOperations + 1
	rows = c.table.Operations(q)
	if limit < len(rows) {
		rows, more = rows[:limit], len(rows)-limit
	}
	return rows, more
}

func (c *Collector) socketStatus() socket.Status {
	if c.receiver == nil {
		return socket.Status{Path: c.options.SocketPath, Problem: c.options.SocketProblem}
	}
	return c.receiver.Status()
}

// silence is how long a node can be up without a span before that is odd: an
// idle one sends some twenty a minute.
const silence = 5 * time.Minute

// judge finds what is wrong, each with its remedy.
func (c *Collector) judge(r *stats.Report, link socket.Status, outage, now time.Time) (stats.Status, []string) {
	c.mu.Lock()
	problems, cfg, unsent := c.problems, c.cfg, c.unsent
	c.mu.Unlock()
	warnings := []string{} // an empty list, not null, in JSON
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	status := stats.StatusOK
	if !outage.IsZero() {
		status = stats.StatusBackendUnreachable
		warn("%s has not taken spans since %s: %s. Spans wait while there is room.",
			r.Export.Endpoint, outage.UTC().Format(time.RFC3339), cfg.ExplainOutage(r.Export.LastError))
	}
	if link.Problem != "" {
		status = stats.StatusDegraded
		warn("No span can be received: %s.", link.Problem)
	}
	for i, problem := range problems {
		status = stats.StatusDegraded
		problem = strings.TrimSuffix(problem, ".") + "."
		if i == len(problems)-1 {
			problem += " " + UntilMended + "."
		}
		warn("%s", problem)
	}
	if r.Export.State == export.StateRefusing {
		status = stats.StatusDegraded
	}
	c.judgeArrival(r, link, now, warn)
	judgeMemory(r, link, warn)
	c.judgeSpool(r, c.pipeline.Spool(), warn)
	if n := r.Spans.RejectedByBackend; n > 0 && r.Export.Refusal != "" {
		warn("%s refused %s lost: %s.", r.Export.Endpoint, text.Number(n, "span for good, it is", "spans for good, they are"), cfg.ExplainRefusal(r.Export.Refusal))
	} else if n > 0 {
		warn("%s refused for good before the endpoint or its headers last changed. The log says why.", text.Number(n, "span is lost that was", "spans are lost that were"))
	}
	if n := r.Datagrams.Malformed; n > 0 {
		warn("%s dropped; the last one: %v. Something else than lightningd may be sending to %s.",
			text.Number(n, "datagram was not a span and was", "datagrams were not spans and were"), c.lastMalformed(), link.Path)
	}
	if found := c.defect.Load(); found != nil {
		warn("Spans met %v. They may lack a part of what clntrace knows of them, be missing in the statistics or stay pending.", *found)
	}
	if unsent != nil {
		warn("Metrics: %v. Correct that in lightningd's configuration and restart the node, or take clntrace-metrics out. Spans are not affected.", unsent)
	}
	if m := c.metrics.Load(); m != nil && outage.IsZero() {
		if since, reason := m.Outage(); !since.IsZero() {
			warn("%s has not taken metrics since %s: %s. Spans are not affected. Start the endpoint; if it takes spans only, send to the OpenTelemetry Collector or take clntrace-metrics out.",
				r.Export.Endpoint, since.UTC().Format(time.RFC3339), reason)
		}
	}
	if e := c.endpoint(); e.PlaintextRemote() {
		warn("Spans go to %s unencrypted. Use https:// unless the network between is yours.", e)
	}
	return status, warnings
}

// enoughQueue is the queue, in datagrams, that loses nothing in a flood if
// clntrace gets to run. systemd sets it on hosts; containers begin with 10.
const enoughQueue = 512

// enoughBuffer is the buffer of a sender, in bytes, that does not end before
// such a queue: for a small span the kernel counts some 1,300.
const enoughBuffer = 1 << 20

// judgeArrival finds what is wrong on the way from the senders, each with its
// remedy.
func (c *Collector) judgeArrival(r *stats.Report, link socket.Status, now time.Time, warn func(string, ...any)) {
	c.judgeSilence(link, now, warn)
	if link.Closed != "" {
		warn("The users of clntrace-allow-uids cannot send: %s. It is tried again every few seconds.", link.Closed)
	}
	if link.QueueFull > 0 {
		remedy := "Run 'sysctl -w net.unix.max_dgram_qlen=512' and restart clntrace; in Docker start the container with --sysctl net.unix.max_dgram_qlen=512, " +
			"in Kubernetes set it in the pod's securityContext.sysctls."
		if link.QueueLimit >= enoughQueue {
			remedy = "The queue is large, so clntrace does not get to run in time: give the machine more processor, or less to do."
		}
		warn("The kernel's queue holds %d datagrams and was %s: spans were lost before clntrace could see them. %s",
			link.QueueLimit+1, stats.Full(link.QueueFull), remedy)
	}
	if link.SenderFull > 0 {
		warn("A sender's own buffer (net.core.wmem_default, %d bytes) was %s, before the kernel's queue of %d: spans were lost before clntrace could see them. "+
			"Run 'sysctl -w net.core.wmem_default=%d' on the host, which containers cannot set for themselves, and restart the node.",
			link.SenderBuffer, stats.Full(link.SenderFull), link.QueueLimit+1, max(enoughBuffer, 4*link.SenderBuffer))
	}
	if n := r.Spans.MissingParents; n > 0 {
		remedy := "Processes that died leave such spans, too."
		switch {
		case link.QueueFull > 0 || link.SenderFull > 0:
			remedy = "There was no room for them: see above."
		case link.QueueLimit > 0 && link.QueueLimit < enoughQueue:
			remedy += fmt.Sprintf(" The kernel's queue is small (%d): raise net.unix.max_dgram_qlen to 512.", link.QueueLimit+1)
		}
		warn("%s a parent that did not come within 60 s: at least that much was lost on the way, or the parent is still running. %s", text.Number(n, "span names", "spans name"), remedy)
	}
	if n := r.Spans.Truncated; n > 0 {
		warn("%s longer than lightningd sends (2,047 bytes) and came cut. %d got their trace back from a relative; "+
			"such as did not are traces of their own with cln.truncated=true.", text.Number(n, "span was", "spans were"), r.Spans.Repaired)
	}
	if n := r.Datagrams.Refused; n > 0 {
		warn("%s dropped. To accept such, list the users in clntrace-allow-uids.",
			text.Number(n, "datagram came from a user who is not allowed and was", "datagrams came from users who are not allowed and were"))
	}
}

// judgeMemory tells apart why there was no room in memory: the same counter
// holds what found none before decoding and behind it.
func judgeMemory(r *stats.Report, link socket.Status, warn func(string, ...any)) {
	if n := r.Spans.DroppedQueueFull - min(link.Dropped, r.Spans.DroppedQueueFull); n > 0 {
		warn("%s dropped because too many were waiting in memory. Raise clntrace-queue-size, or export less with clntrace-sample-ratio.",
			text.Number(n, "span was", "spans were"))
	}
	if link.Dropped > 0 {
		warn("%s dropped because they came faster than they could be decoded. A node does not send so many for long: find what else sends to %s, or give the machine more processor.",
			text.Number(link.Dropped, "datagram was", "datagrams were"), link.Path)
	}
}

// judgeSilence warns when nothing comes although somebody listens.
func (c *Collector) judgeSilence(link socket.Status, now time.Time, warn func(string, ...any)) {
	last, ever := c.started, false
	if s := c.lastSpan.Load(); s != 0 {
		last, ever = c.started.Add(time.Duration(s)), true
	}
	minutes := int(now.Sub(last).Minutes())
	switch {
	case !link.Listening || now.Sub(last) <= silence:
	case ever:
		warn("No span has come for %d minutes. An idle node sends some twenty a minute: is lightningd still running, and not hanging?", minutes)
	default:
		warn("No span has come for %d minutes. Was lightningd itself started with CLN_TRACE_SOCKET=%s? It reads the variable once, at its start, "+
			"and sends spans from version 26.06 on: set it in lightningd's environment and restart the node.", minutes, link.Path)
	}
}

// nearlyFull is the share of the spool from which on it is worth a warning,
// percent.
const nearlyFull = 80

// judgeSpool finds what is wrong with the spool, each with its remedy.
func (c *Collector) judgeSpool(r *stats.Report, s spool.Status, warn func(string, ...any)) {
	if s.Limit == 0 {
		return
	}
	const mib = 1 << 20
	if s.Problem != nil {
		warn("Spans cannot be kept on disk while the endpoint is away, only in memory: %v.", s.Problem)
	}
	if r.Spans.Spooled > 0 && s.Bytes > s.Limit/100*nearlyFull {
		warn("The spool holds %.1f of %d MiB. When it is full the oldest spans go. Start the endpoint, or raise clntrace-spool-size.",
			float64(s.Bytes)/mib, s.Limit/mib)
	}
	if n := r.Spans.DroppedSpoolFull; n > 0 {
		warn("%s lost from the spool: it was full and the oldest went, or somebody removed or damaged its files. Raise clntrace-spool-size; see the log.", text.Number(n, "span is", "spans are"))
	}
	if s.Damaged > 0 {
		warn("%s set aside in %s. Nothing needs that: look at it or delete it.", text.Number(s.Damaged, "damaged file was", "damaged files were"), s.Dir)
	}
}

func (c *Collector) endpoint() export.Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg.Endpoint
}

// traceParent reads the trace and the parent of a W3C traceparent; what has
// another form has none, as for lightningd.
func traceParent(s string) (traceID trace.TraceID, parent trace.SpanID) {
	const length, traceAt, parentAt = 55, 3, 36 // 00-<32 hex>-<16 hex>-<2 hex>
	if len(s) != length {
		return traceID, parent
	}
	_, err := hex.Decode(traceID[:], []byte(s[traceAt:traceAt+32]))
	if err == nil {
		_, err = hex.Decode(parent[:], []byte(s[parentAt:parentAt+16]))
	}
	if err != nil {
		return trace.TraceID{}, trace.SpanID{}
	}
	return traceID, parent
}
