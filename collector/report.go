package collector

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/export"
	"clntrace/collector/socket"
	"clntrace/collector/stats"
)

// Stats reports on everything since Open.
func (c *Collector) Stats(q stats.Query) stats.Report {
	now := time.Now()
	link := c.socketStatus()
	endpoint, outage := c.pipeline.Status()
	counts := c.ledger.Counts()
	// What the receiver had to drop never came to the ledger. Both sides of
	// each identity get the same number, so they still hold.
	dropped := int64(link.Dropped) //nolint:gosec // no counter comes near the limit
	counts = counts.Add(stats.Counts{
		Received: dropped, Bytes: int64(link.DroppedBytes), //nolint:gosec // as above
		Accepted: dropped, DroppedQueueFull: dropped,
	})
	r := stats.Report{
		Version:       c.options.Version,
		UptimeSeconds: int64(now.Sub(c.started).Seconds()),
		Socket: stats.Socket{
			Path: link.Path, State: "listening", QueueLimit: link.QueueLimit,
			QueueFullEvents: link.QueueFull, LargestDatagram: int(c.largest.Load()),
		},
		Datagrams:  stats.DatagramsOf(counts),
		Spans:      stats.SpansOf(counts),
		Export:     endpoint,
		Processes:  c.table.Processes(),
		Operations: c.table.Operations(q),
	}
	r.Spans.RatePerSecond = c.ledger.Rate(now)
	if !link.Listening {
		r.Socket.State = "not listening"
	}
	r.Status, r.Warnings = c.judge(&r, link, outage, now)
	return r
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
	problems, malformed := c.problems, c.malformed
	c.mu.Unlock()
	warnings := []string{} // an empty list, not null, in JSON
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	status := stats.StatusOK
	if !outage.IsZero() {
		status = stats.StatusBackendUnreachable
		warn("%s has not taken spans since %s: %s. They wait; start the endpoint or correct clntrace-otlp-endpoint.",
			r.Export.Endpoint, outage.UTC().Format(time.RFC3339), r.Export.LastError)
	}
	if link.Problem != "" {
		status = stats.StatusDegraded
		warn("No span can be received: %s.", link.Problem)
	}
	for _, problem := range problems {
		status = stats.StatusDegraded
		warn("Nothing is exported until this is mended (spans count as filtered): %s.", strings.TrimSuffix(problem, "."))
	}
	last := c.started
	if s := c.lastSpan.Load(); s != 0 {
		last = time.Unix(s, 0)
	}
	if link.Listening && now.Sub(last) > silence {
		warn("No span has come for %d minutes. Was lightningd itself started with CLN_TRACE_SOCKET=%s? It reads the variable once, at its start.",
			int(now.Sub(last).Minutes()), link.Path)
	}
	if link.QueueFull > 0 {
		warn("The kernel's queue holds %d datagrams and was full %d times: spans were lost before clntrace could see them. "+
			"Run 'sysctl -w net.unix.max_dgram_qlen=512' and restart clntrace; in Docker start the container with --sysctl net.unix.max_dgram_qlen=512, "+
			"in Kubernetes set it in the pod's securityContext.sysctls.", link.QueueLimit+1, link.QueueFull)
	}
	if n := r.Spans.MissingParents; n > 0 {
		warn("%d spans name a parent that did not come within 60 s: at least that much was lost on the way, or the parent is still running.", n)
	}
	if n := r.Spans.DroppedQueueFull; n > 0 {
		warn("%d spans were dropped because too many were waiting in memory. Raise clntrace-queue-size, or export less with clntrace-sample-ratio.", n)
	}
	if n := r.Spans.RejectedByBackend; n > 0 {
		warn("%s refused %d spans for good: %s. They are lost; correct what it complains about.", r.Export.Endpoint, n, r.Export.LastError)
	}
	if n := r.Datagrams.Refused; n > 0 {
		warn("%d datagrams came from users who are not allowed and were dropped. To accept them, list the users in clntrace-allow-uids.", n)
	}
	if n := r.Datagrams.Malformed; n > 0 {
		warn("%d datagrams were not spans and were dropped; the last one: %v. Something else than lightningd may be sending to %s.", n, malformed, link.Path)
	}
	if n := r.Spans.Truncated; n > 0 {
		warn("%d spans were longer than lightningd sends (2,047 bytes) and came cut. They are exported with cln.truncated.", n)
	}
	if e := c.endpoint(); e.PlaintextRemote() {
		warn("Spans go to %s unencrypted. Use https:// unless the network between is yours.", e)
	}
	return status, warnings
}

func (c *Collector) endpoint() export.Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg.Endpoint
}

// parentID reads the parent of a W3C traceparent; what has another form has
// none, as for lightningd.
func parentID(traceparent string) (id trace.SpanID) {
	const length, at = 55, 36 // 00-<32 hex>-<16 hex>-<2 hex>
	if len(traceparent) == length {
		if _, err := hex.Decode(id[:], []byte(traceparent[at:at+16])); err != nil {
			return trace.SpanID{}
		}
	}
	return id
}
