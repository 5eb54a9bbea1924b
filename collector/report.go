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
	if c.receiver != nil {
		c.receiver.Settle() // the request that somebody asks about may have ended just now
	}
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
		Match:     q.Match,
	}
	r.Operations, r.MoreOperations = c.operations(q)
	r.Spans.RatePerSecond = c.ledger.Rate(now)
	if !link.Listening {
		r.Socket.State = "not listening"
	}
	r.Status, r.Warnings = c.judge(&r, link, outage, now)
	return r
}

// operations answers q, and returns how many more rows there are than q.Limit.
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

// silence is how long a lack of spans is normal: even an idle node sends some
// twenty a minute.
const silence = 5 * time.Minute

// warnings are what is wrong, each with its remedy, for the operator to read.
type warnings []string

func (w *warnings) add(format string, args ...any) { *w = append(*w, fmt.Sprintf(format, args...)) }

// judge finds what is wrong, and sums it up.
func (c *Collector) judge(r *stats.Report, link socket.Status, outage, now time.Time) (stats.Status, []string) {
	c.mu.Lock()
	problems, cfg, unsent := c.problems, c.cfg, c.unsent
	c.mu.Unlock()
	list := warnings{} // in JSON an empty list, not null
	if !outage.IsZero() {
		list.add("%s has not taken spans since %s: %s. Spans wait while there is room.",
			r.Export.Endpoint, outage.UTC().Format(time.RFC3339), r.Export.Outage)
	}
	if link.Problem != "" {
		list.add("No span can be received: %s.", link.Problem)
	}
	for i, problem := range problems {
		problem = strings.TrimSuffix(problem, ".") + "."
		if i == len(problems)-1 {
			problem += " " + UntilCorrected + "."
		}
		list.add("%s", problem)
	}
	c.judgeArrival(r, link, now, &list)
	judgeMemory(r, link, &list)
	judgeSpool(r, c.pipeline.Spool(), &list)
	judgeRejections(r, &list)
	c.judgeDecoding(r, link, &list)
	c.judgeMetrics(r, unsent, outage, &list)
	if cfg.Endpoint.PlaintextRemote() {
		list.add("Spans go to %s unencrypted. Use https:// unless you trust the network in between.", cfg.Endpoint)
	}
	status := stats.StatusOK
	switch {
	case link.Problem != "", len(problems) > 0, r.Export.State == export.StateRefusing, rejecting(r, now):
		status = stats.StatusDegraded
	case !outage.IsZero():
		status = stats.StatusBackendUnreachable
	}
	return status, list
}

// rejecting reports whether the endpoint has rejected spans of late, though it may have
// taken others since.
func rejecting(r *stats.Report, now time.Time) bool {
	const late = 5 * time.Minute
	return !r.Export.RejectedAt.IsZero() && now.Sub(r.Export.RejectedAt) < late
}

// judgeRejections tells why the endpoint has rejected spans in the last hour.
func judgeRejections(r *stats.Report, list *warnings) {
	if r.Export.RejectedAt.IsZero() {
		return
	}
	n, last := r.Spans.RejectedByBackend, r.Export.RejectedAt.UTC().Format("15:04:05 UTC")
	if r.Export.Rejection != "" {
		list.add("%s rejected %s lost, last at %s: %s.", r.Export.Endpoint, text.Number(n, "span, it is", "spans, they are"), last, r.Export.Rejection)
	} else {
		list.add("%s rejected before the endpoint or its headers last changed, at %s. The log says why.",
			text.Number(n, "span is lost that was", "spans are lost that were"), last)
	}
}

// judgeDecoding tells of datagrams that are not spans, and of our own defects.
func (c *Collector) judgeDecoding(r *stats.Report, link socket.Status, list *warnings) {
	if n := r.Datagrams.Malformed; n > 0 {
		list.add("%s dropped; the last one: %v. Something other than lightningd may be sending to %s.",
			text.Number(n, "datagram was not a span and was", "datagrams were not spans and were"), c.lastMalformed(), link.Path)
	}
	if found := c.defect.Load(); found != nil {
		list.add("Spans ran into %v. They may lack attributes or links, be missing from the statistics, or stay pending.", *found)
	}
}

// judgeMetrics tells why metrics do not arrive, unless spans do not either.
func (c *Collector) judgeMetrics(r *stats.Report, unsent error, outage time.Time, list *warnings) {
	if unsent != nil {
		list.add("Metrics: %v. Correct that in lightningd's configuration and restart the node, or remove clntrace-metrics. Spans are not affected.", unsent)
	}
	m := c.metrics.Load()
	if m == nil || !outage.IsZero() {
		return
	}
	if since, reason := m.Outage(); !since.IsZero() {
		list.add("%s has not taken metrics since %s: %s. Spans are not affected. If it takes only spans, send to an OpenTelemetry Collector or remove clntrace-metrics.",
			r.Export.Endpoint, since.UTC().Format(time.RFC3339), reason)
	}
}

// enoughQueue is the queue limit, in datagrams, with which bursts lose nothing if
// clntrace gets to run in time. systemd sets it on hosts; containers start with 10.
const enoughQueue = 512

// enoughBuffer is a sender's buffer, in bytes, that is not full before such a
// queue is: the kernel charges some 1,300 bytes for a small span.
const enoughBuffer = 1 << 20

// judgeArrival finds what is wrong between the senders and the decoder.
func (c *Collector) judgeArrival(r *stats.Report, link socket.Status, now time.Time, list *warnings) {
	c.judgeSilence(link, now, list)
	if link.Closed != "" {
		list.add("The users of clntrace-allow-uids cannot send: %s. It is tried again every few seconds.", link.Closed)
	}
	if link.QueueFull > 0 {
		remedy := "Run 'sysctl -w net.unix.max_dgram_qlen=512' and restart clntrace; in Docker start the container with --sysctl net.unix.max_dgram_qlen=512, " +
			"in Kubernetes set it in the pod's securityContext.sysctls."
		if link.QueueLimit >= enoughQueue {
			remedy = "The queue is large, so clntrace does not get to run in time: give the machine more CPU, or less to do."
		}
		list.add("The kernel's queue holds %d datagrams and was %s: spans were lost before clntrace could see them. %s",
			link.QueueLimit+1, stats.Full(link.QueueFull), remedy)
	}
	if link.SenderFull > 0 {
		list.add("A sender's own buffer (net.core.wmem_default, %d bytes) was %s, before the kernel's queue of %d: spans were lost before clntrace could see them. "+
			"Run 'sysctl -w net.core.wmem_default=%d' on the host, which containers cannot set for themselves, and restart the node.",
			link.SenderBuffer, stats.Full(link.SenderFull), link.QueueLimit+1, max(enoughBuffer, 4*link.SenderBuffer))
	}
	if n := r.Spans.MissingParents; n > 0 {
		remedy := "Processes that die leave such spans, too."
		switch {
		case link.QueueFull > 0 || link.SenderFull > 0:
			remedy = "There was no room for them: see above."
		case link.QueueLimit > 0 && link.QueueLimit < enoughQueue:
			remedy += fmt.Sprintf(" The kernel's queue is small (%d): raise net.unix.max_dgram_qlen to 512.", link.QueueLimit+1)
		}
		list.add("%s a parent that did not come within 60 s: such parents were lost on the way, or are still running. %s", text.Number(n, "span names", "spans name"), remedy)
	}
	if n := r.Spans.Truncated; n > 0 {
		list.add("%s longer than the 2,047 bytes that lightningd sends and came cut. %d got their trace id back from a relative; "+
			"the others are exported as traces of their own, with cln.truncated=true.", text.Number(n, "span was", "spans were"), r.Spans.Repaired)
	}
	if n := r.Datagrams.Refused; n > 0 {
		list.add("%s dropped. To accept them, list the users in clntrace-allow-uids.",
			text.Number(n, "datagram came from a user who is not allowed and was", "datagrams came from users who are not allowed and were"))
	}
}

// judgeMemory finds out where there was no room in memory. One counter holds both
// what was dropped before decoding, when the ring was full, and what was dropped
// after it, when the queue was.
func judgeMemory(r *stats.Report, link socket.Status, list *warnings) {
	if n := r.Spans.DroppedQueueFull - min(link.Dropped, r.Spans.DroppedQueueFull); n > 0 {
		list.add("%s dropped because too many were waiting in memory. Raise clntrace-queue-size, or export less with clntrace-sample-ratio.",
			text.Number(n, "span was", "spans were"))
	}
	if link.Dropped > 0 {
		list.add("%s dropped because they came faster than they could be decoded. A node does not send so many for long: find what else sends to %s, or give the machine more CPU.",
			text.Number(link.Dropped, "datagram was", "datagrams were"), link.Path)
	}
}

// judgeSilence warns if we listen and nothing comes.
func (c *Collector) judgeSilence(link socket.Status, now time.Time, list *warnings) {
	last, ever := c.started, false
	if s := c.lastSpan.Load(); s != 0 {
		last, ever = c.started.Add(time.Duration(s)), true
	}
	minutes := int(now.Sub(last).Minutes())
	switch {
	case !link.Listening || now.Sub(last) <= silence:
	case ever:
		list.add("No span has come for %d minutes. Even an idle node sends some twenty a minute: is lightningd still running, or does it hang?", minutes)
	default:
		list.add("No span has come for %d minutes. Was lightningd itself started with CLN_TRACE_SOCKET=%s? It reads the variable once, at its start, "+
			"and sends spans from version 26.06 on: set it in lightningd's environment and restart the node.", minutes, link.Path)
	}
}

// nearlyFull is how full the spool must be for a warning, in percent.
const nearlyFull = 80

// judgeSpool finds what is wrong with the spool.
func judgeSpool(r *stats.Report, s spool.Status, list *warnings) {
	if s.Limit == 0 {
		return
	}
	const mib = 1 << 20
	if s.Problem != nil {
		list.add("Spans cannot be kept on disk while the endpoint is away, only in memory: %v.", s.Problem)
	}
	if r.Spans.Spooled > 0 && s.Bytes > s.Limit/100*nearlyFull {
		list.add("The spool holds %.1f of %d MiB. When it is full the oldest spans are dropped. Start the endpoint, or raise clntrace-spool-size.",
			float64(s.Bytes)/mib, s.Limit/mib)
	}
	if n := r.Spans.DroppedSpoolFull; n > 0 {
		list.add("%s lost from the spool: it was full and the oldest were dropped, or its files were removed or damaged. Raise clntrace-spool-size; see the log.", text.Number(n, "span is", "spans are"))
	}
	if s.Damaged > 0 {
		list.add("%s set aside in %s. Nothing needs them any more: look at them or delete them.", text.Number(s.Damaged, "damaged file was", "damaged files were"), s.Dir)
	}
}

// traceParent reads the trace id and the parent id of a W3C traceparent. Like
// lightningd, it ignores one that has another form.
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
