package collector

import (
	"fmt"
	"strings"
	"time"

	"clntrace/collector/export"
	"clntrace/collector/metrics"
	"clntrace/collector/policy"
	"clntrace/collector/socket"
	"clntrace/collector/spool"
	"clntrace/collector/stats"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

// facts are what diagnose goes by.
type facts struct {
	report    stats.Report // all but its Status and Warnings
	link      socket.Status
	spool     spool.Status
	config    Config
	problems  []string      // sentences about options that cannot be used
	outage    time.Time     // since when the endpoint takes no spans; zero: it does
	rejected  time.Duration // since spans were last rejected; Export.RejectedAt says whether they were
	now       time.Time
	grew      [counterNumber]time.Time // when each counter last grew; zero: never
	longest   waited                   // the request that waited longest for lightningd in the last hour
	waits     uint64                   // requests that waited long
	writing   time.Duration            // the median time of an answer to a method that writes, when that was last slow
	unmatched []string                 // patterns of spans to drop that have matched nothing for a while
	silent    time.Duration            // since the last span or, if none has come, since Open
	spansCame bool
	malformed error // what was wrong with the last datagram that was no span; nil: none
	defect    error // the last one found; nil: none
	metrics   metricsFacts
	voice     voice.Voice
}

// metricsFacts are the facts about metrics.
type metricsFacts struct {
	unsent error     // why they are not sent, or go to another endpoint than spans; nil: neither
	outage time.Time // since when the endpoint takes none; zero: it does, or they are not wanted
	reason string    // of the outage
	scrape metrics.ScrapeStatus
}

// diagnose finds what is wrong, and says it in one word and in sentences that name
// the remedy. It depends on nothing but f.
func diagnose(f facts) (stats.Status, []string) {
	d := diagnosis{facts: f, warnings: []string{}} // in JSON an empty list, not null
	d.outageOfSpans()
	d.socketAndOptions()
	d.silence()
	d.kernel()
	d.relatives()
	d.waiting()
	d.otherUsers()
	d.memory()
	d.disk()
	d.rejections()
	d.openPayments()
	d.decoding()
	d.metricsSent()
	d.scraped()
	d.patterns()
	if f.config.Endpoint.PlaintextRemote() {
		d.warn("Spans go to %s unencrypted. Use https:// unless you trust the network in between.", f.config.Endpoint)
	}
	return f.status(), d.warnings
}

// status sums up.
func (f *facts) status() stats.Status {
	switch {
	case f.link.Problem != "", len(f.problems) > 0, f.report.Export.State == export.StateRefusing, f.rejecting():
		return stats.StatusDegraded
	case !f.outage.IsZero():
		return stats.StatusBackendUnreachable
	}
	return stats.StatusOK
}

// rejecting reports whether the endpoint has rejected spans of late, though it may have
// taken others since.
func (f *facts) rejecting() bool {
	const late = 5 * time.Minute
	return !f.report.Export.RejectedAt.IsZero() && f.rejected < late
}

// diagnosis is what has been found so far.
type diagnosis struct {
	facts
	warnings []string
}

func (d *diagnosis) warn(format string, args ...any) {
	d.warnings = append(d.warnings, fmt.Sprintf(format, args...))
}

// recently reports whether the counter has grown in the last hour, and says when it
// last did: "last at 18:06:22 UTC". What is older needs no warning any more.
func (d *diagnosis) recently(c counter) (last string, ok bool) {
	at := d.grew[c]
	if at.IsZero() || d.now.Sub(at) > warningLife {
		return "", false
	}
	return "last at " + clock(at), true
}

// clock writes a time of the last day.
func clock(at time.Time) string { return at.UTC().Format("15:04:05 UTC") }

// advice is a sentence that names options, in place of its %s, to follow another
// sentence. It is empty if one of them cannot be set where this is said.
func (d *diagnosis) advice(format string, options ...string) string {
	names := make([]any, len(options))
	for i, name := range options {
		if !d.voice.Has(name) {
			return ""
		}
		names[i] = d.voice.Option(name)
	}
	return " " + fmt.Sprintf(format, names...)
}

func (d *diagnosis) outageOfSpans() {
	if !d.outage.IsZero() {
		d.warn("%s has not taken spans since %s: %s. Spans wait while there is room.",
			d.report.Export.Endpoint, d.outage.UTC().Format(time.RFC3339), d.report.Export.Outage)
	}
}

// socketAndOptions tells what keeps clntrace from working at all.
func (d *diagnosis) socketAndOptions() {
	if d.link.Problem != "" {
		d.warn("No span can be received: %s.", d.link.Problem)
	}
	for i, problem := range d.problems {
		problem = strings.TrimSuffix(problem, ".") + "."
		if i == len(d.problems)-1 {
			problem += " " + UntilCorrected + "."
		}
		d.warn("%s", problem)
	}
}

// silenceLimit is how long a lack of spans is normal: even an idle node sends some
// twenty a minute.
const silenceLimit = 5 * time.Minute

// silence tells that we listen and nothing comes.
func (d *diagnosis) silence() {
	silent := text.Duration(d.silent.Truncate(time.Minute))
	switch {
	case !d.link.Listening || d.silent <= silenceLimit:
	case d.spansCame:
		d.warn("No span has come for %s. Even an idle node sends some twenty a minute: is lightningd still running, or does it hang?", silent)
	default:
		d.warn("No span has come for %s. Was lightningd itself started with CLN_TRACE_SOCKET=%s? It reads the variable once, at its start, "+
			"and sends spans from version 26.06 on: set it in lightningd's environment and restart the node.", silent, d.link.Path)
	}
}

// enoughQueue is the queue limit, in datagrams, with which bursts lose nothing if
// clntrace gets to run in time. systemd sets it on hosts; containers start with 10.
const enoughQueue = 512

// enoughBuffer is a sender's buffer, in bytes, that is not full before such a
// queue is: the kernel charges some 1,300 bytes for a small span.
const enoughBuffer = 1 << 20

// kernel tells of spans that were lost before clntrace could see them.
func (d *diagnosis) kernel() {
	link := &d.link
	if link.Closed != "" {
		d.warn("The users of %s cannot send: %s. It is tried again every few seconds.", d.voice.Option("allow-uids"), link.Closed)
	}
	if last, ok := d.recently(kernelFull); ok {
		remedy := "Run 'sysctl -w net.unix.max_dgram_qlen=512' and restart clntrace; in Docker start the container with --sysctl net.unix.max_dgram_qlen=512, " +
			"in Kubernetes set it in the pod's securityContext.sysctls."
		if link.QueueLimit >= enoughQueue {
			remedy = "The queue is large, so clntrace does not get to run in time: give the machine more CPU, or less to do."
		}
		d.warn("The kernel's queue holds %d datagrams and was %s, %s: spans were lost before clntrace could see them. %s",
			link.QueueLimit+1, stats.Full(link.QueueFull), last, remedy)
	}
	if last, ok := d.recently(senderFull); ok {
		d.warn("A sender's own buffer (net.core.wmem_default, %d bytes) was %s, %s, before the kernel's queue of %d: spans were lost before clntrace could see them. "+
			"Run 'sysctl -w net.core.wmem_default=%d' on the host, which containers cannot set for themselves, and restart the node.",
			link.SenderBuffer, stats.Full(link.SenderFull), last, link.QueueLimit+1, max(enoughBuffer, 4*link.SenderBuffer))
	}
}

// relatives tells of spans that came without their parents, or cut.
func (d *diagnosis) relatives() {
	link := &d.link
	if last, ok := d.recently(missedParents); ok {
		_, kernel := d.recently(kernelFull)
		_, sender := d.recently(senderFull)
		remedy := "Processes that die leave such spans, too."
		switch {
		case kernel || sender:
			remedy = "There was no room for them: see above."
		case link.QueueLimit > 0 && link.QueueLimit < enoughQueue:
			remedy += fmt.Sprintf(" The kernel's queue is small (%d): raise net.unix.max_dgram_qlen to 512.", link.QueueLimit+1)
		}
		d.warn("%s a parent that did not come within 60s, %s: such parents were lost on the way, or are still running. %s",
			text.Number(d.report.Spans.MissingParents, "span names", "spans name"), last, remedy)
	}
	if last, ok := d.recently(cutSpans); ok {
		d.warn("%s longer than the 2,047 bytes that lightningd sends and came cut, %s. %d got their trace id back from a relative; "+
			"the others are exported as traces of their own, with cln.truncated=true.",
			text.Number(d.report.Spans.Truncated, "span was", "spans were"), last, d.report.Spans.Repaired)
	}
}

// waiting tells that requests waited long for lightningd, or for their answers.
func (d *diagnosis) waiting() {
	if last, ok := d.recently(longWaits); ok {
		w := &d.longest
		meanwhile := "No span of lightningd tells what it did meanwhile: it may have written to its database, or have had no CPU."
		if len(w.meanwhile) > 0 {
			var list []string
			for _, b := range w.meanwhile {
				list = append(list, fmt.Sprintf("%s (%s)", b.what, stats.Time(b.took)))
			}
			meanwhile = "In that time fell these spans of lightningd, which need not be the cause: " + strings.Join(list, ", ") + "."
		}
		d.warn("%s more than %s for lightningd, which does one thing at a time, %s. The longest of the last hour was %s of %s at %s: %s. %s",
			text.Number(d.waits, "request waited", "requests waited"), stats.Time(longWait), last, w.method, w.process, clock(w.at), stats.Time(w.wait), meanwhile)
	}
	if last, ok := d.recently(slowWrites); ok {
		d.warn("lightningd takes long to write, %s: of its last %d answers to requests that write, half took %s or more after the work was done. "+
			"That is the database's COMMIT, which no span shows: see to the disk, or to what else uses it.", last, writesJudged, stats.Time(d.writing))
	}
}

// patterns tells which patterns do nothing.
func (d *diagnosis) patterns() {
	if len(d.unmatched) == 0 || d.config.Endpoint.Off() {
		return
	}
	quoted := make([]string, len(d.unmatched))
	for i, p := range d.unmatched {
		quoted[i] = "'" + text.Quotable(p) + "'"
	}
	d.warn("No span has matched %s of %s for %s or more. A pattern is a span's whole name, or what %s shows under WHAT, with * for any text. %s.",
		strings.Join(quoted, ", "), d.voice.Option("drop-spans"), text.Duration(policy.IdleMinutes*time.Minute), d.voice.Statistics, d.voice.Correct("drop-spans", true))
}

func (d *diagnosis) otherUsers() {
	if last, ok := d.recently(refusedUsers); ok {
		d.warn("%s dropped, %s.%s", text.Number(d.report.Datagrams.Refused, "datagram came from a user who is not allowed and was", "datagrams came from users who are not allowed and were"),
			last, d.advice("To accept them, list the users in %s.", "allow-uids"))
	}
}

// memory tells where there was no room in memory. One counter holds both what was
// dropped before decoding, when the ring was full, and what was dropped after it.
func (d *diagnosis) memory() {
	dropped := d.report.Spans.DroppedQueueFull
	inRing := min(d.link.Dropped, dropped)
	if last, ok := d.recently(queueDropped); ok && dropped > inRing {
		d.warn("%s dropped because too many were waiting in memory, %s.%s", text.Number(dropped-inRing, "span was", "spans were"), last,
			d.advice("Raise %s, or export less with %s.", "queue-size", "sample-ratio"))
	}
	if last, ok := d.recently(ringDropped); ok {
		d.warn("%s dropped because they came faster than they could be decoded, %s. A node does not send so many for long: find what else sends to %s, or give the machine more CPU.",
			text.Number(d.link.Dropped, "datagram was", "datagrams were"), last, d.link.Path)
	}
}

// nearlyFull is how full the spool must be for a warning, in percent.
const nearlyFull = 80

// disk tells what is wrong with the spool.
func (d *diagnosis) disk() {
	const mib = 1 << 20
	s := d.spool
	if s.Limit == 0 {
		return
	}
	grows := !d.config.Endpoint.Off() // nothing has to be kept while nothing is exported
	if grows && s.Problem != nil {
		d.warn("Spans cannot be kept on disk while the endpoint is away, only in memory: %v.", s.Problem)
	}
	if grows && d.report.Spans.Spooled > 0 && s.Bytes > s.Limit/100*nearlyFull {
		d.warn("The spool holds %.1f of %d MiB. When it is full the oldest spans are dropped. Start the endpoint, or raise %s.",
			float64(s.Bytes)/mib, s.Limit/mib, d.voice.Option("spool-size"))
	}
	if last, ok := d.recently(spoolDropped); ok {
		d.warn("%s lost from the spool, %s: it was full and the oldest were dropped, or its files were removed or damaged. Raise %s; see the log.",
			text.Number(d.report.Spans.DroppedSpoolFull, "span is", "spans are"), last, d.voice.Option("spool-size"))
	}
	if last, ok := d.recently(damagedFiles); ok {
		d.warn("%s set aside in %s, %s: damaged, or of another version of clntrace; see the log. This one needs them no more: look at them or delete them.",
			text.Number(s.Damaged, "file was", "files were"), s.Dir, last)
	}
}

// rejections tells why the endpoint rejected spans in the last hour.
func (d *diagnosis) rejections() {
	e, n := &d.report.Export, d.report.Spans.RejectedByBackend
	if e.RejectedAt.IsZero() {
		return
	}
	last := clock(e.RejectedAt)
	if e.Rejection != "" {
		d.warn("%s rejected %s lost, last at %s: %s.", e.Endpoint, text.Number(n, "span, it is", "spans, they are"), last, e.Rejection)
	} else {
		d.warn("%s rejected before the endpoint or its headers last changed, at %s. The log says why.",
			text.Number(n, "span is lost that was", "spans are lost that were"), last)
	}
}

// openLimit is how long a part of a payment, or a forward, is open that needs nobody's
// attention.
const openLimit = 10 * time.Minute

// openPayments tells of parts and forwards whose HTLC nobody settles or fails.
func (d *diagnosis) openPayments() {
	p := d.report.Payments
	if p == nil || p.OldestOpenSeconds <= int64(openLimit/time.Second) {
		return
	}
	d.warn("Open: %s and %s, one of them for %s: a node on the way, or the receiver, neither settles nor fails it. "+
		"If that node does not come back, the channel closes when the HTLC times out: lightning-cli listhtlcs tells in which one it is.",
		text.Number(p.Open, "part of a payment", "parts of payments"), text.Number(p.ForwardsOpen, "forward", "forwards"), text.Duration(time.Duration(p.OldestOpenSeconds)*time.Second))
}

// decoding tells of datagrams that are not spans, and of our own defects.
func (d *diagnosis) decoding() {
	if last, ok := d.recently(malformed); ok {
		d.warn("%s dropped, %s: %v. Something other than lightningd may be sending to %s.",
			text.Number(d.report.Datagrams.Malformed, "datagram was not a span and was", "datagrams were not spans and were"), last, d.malformed, d.link.Path)
	}
	if last, ok := d.recently(defects); ok {
		d.warn("Spans ran into %v, %s. They may lack attributes or links, be missing from the statistics, or stay pending.", d.defect, last)
	}
}

// metricsSent tells why metrics do not arrive, unless spans do not either.
func (d *diagnosis) metricsSent() {
	option := d.voice.Option("metrics")
	if d.metrics.unsent != nil {
		d.warn("Metrics: %v. Correct that %s and %s, or remove %s. Spans are not affected.",
			d.metrics.unsent, d.voice.Configuration, d.voice.Restart, option)
	}
	if since := d.metrics.outage; !since.IsZero() && d.outage.IsZero() {
		d.warn("%s has not taken metrics since %s: %s. Spans are not affected. If it takes only spans, send to an OpenTelemetry Collector or remove %s.",
			d.report.Export.Endpoint, since.UTC().Format(time.RFC3339), d.metrics.reason, option)
	}
}

// scraped tells what is to be known of the address on which Prometheus may scrape.
func (d *diagnosis) scraped() {
	option, s := d.voice.Option("prometheus-listen"), d.metrics.scrape
	if s.Problem != nil {
		d.warn("Prometheus cannot scrape: %v. This is tried again every 10 s; if it stays so, correct %s %s and %s. Nothing else is affected.", s.Problem, option, d.voice.Configuration, d.voice.Restart)
	}
	if s.Exposed != "" {
		d.warn("Whoever reaches %s can read the metrics, unencrypted. Let only Prometheus reach it, or set %s=localhost:port.", s.Exposed, option)
	}
}
