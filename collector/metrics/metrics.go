package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/otlp"
	"clntrace/collector/payments"
	"clntrace/collector/stats"
	"clntrace/collector/voice"
)

const (
	// interval is how often metrics are sent. They are also sent at the end.
	interval = 30 * time.Second
	// maxPoints bounds the data points of one request. A point that uses all
	// buckets and has all exemplars takes some 2 kB, and gRPC servers accept 4 MiB by
	// default.
	maxPoints = 1000
)

// Options is what Start needs.
type Options struct {
	// Send says that metrics are to be sent over OTLP, as Config says.
	Send   bool
	Config otlp.Config
	// Listen is the host:port on which Prometheus may scrape; empty: none.
	Listen string
	// MayServe reports whether a scrape may be answered. It may be nil: always.
	MayServe func() bool
	// Retain deletes from ids the traces that nobody on the node can look at. It may be
	// nil: all of them.
	Retain func(ids map[trace.TraceID]bool)
	// Yield is called after each scrape with the time that it took. It may block, to
	// leave the processor to others, and it may be nil.
	Yield func(worked time.Duration)

	ServiceName string // for all processes; empty: each has its own
	Version     string // of clntrace
	Logger      *slog.Logger
	Voice       voice.Voice
	// Resource is clntrace itself.
	Resource *resource.Resource
	Counts   func() stats.Counts // of everything since the start
	// SpoolBytes returns the size of the spool on disk.
	SpoolBytes func() int64
	// Payments returns what is open of payments and forwards; false: nothing of them is
	// to leave. It may be nil.
	Payments func() (payments.State, bool)
	// Hides reports whether the detail of spans with that name, which they had when they
	// were observed, may not leave any more. It may be nil: none.
	Hides func(span, detail string) bool
	// HidesPayments reports whether nothing may leave of payments and forwards. It may be
	// nil: then it may.
	HidesPayments func() bool
}

// Metrics are the metrics of a collector: those that are sent, those that Prometheus
// may scrape, or both.
type Metrics struct {
	options  Options
	exporter *exporter // nil: none are sent
	sent     *meter    // nil: none are sent
	scrape   *scrape   // nil: there is none
	unserved error     // why there is none although it is wanted
	series   map[operation]*series
	waits    map[operation]*series
}

// Start begins to send metrics, and to serve scrapes, as o says. The error says what in
// the configuration keeps them from being sent; scrapes are served all the same. What
// keeps Prometheus from scraping is in Scrape.
func Start(o Options) (*Metrics, error) {
	m := &Metrics{options: o, series: make(map[operation]*series), waits: make(map[operation]*series)}
	var err error
	if o.Send {
		err = m.startSending()
	}
	if o.Listen != "" {
		if m.scrape, m.unserved = startScrape(&m.options); m.unserved != nil {
			o.Logger.Warn(fmt.Sprintf("Prometheus cannot scrape: %v", m.unserved))
		}
	}
	return m, err
}

func (m *Metrics) startSending() error {
	e := &exporter{log: m.options.Logger, voice: m.options.Voice, resource: m.options.Resource, hides: m.options.hides}
	next, err := connect(m.options.Config)
	if err != nil {
		return err
	}
	e.use(next, m.options.Config)
	reader := sdkmetric.NewPeriodicReader(e,
		sdkmetric.WithInterval(interval), sdkmetric.WithTimeout(requestTime(m.options.Config.Timeout)), sdkmetric.WithMaxExportBatchSize(maxPoints))
	sent, err := newMeter(&m.options, bounds{reasons: maxReasons, forwardReasons: maxReasons}, reader)
	if err != nil {
		return err
	}
	m.exporter, m.sent = e, sent
	return nil
}

// Use sends everything that follows to cfg's endpoint. An error says what in cfg
// cannot be used, and means that nothing has changed.
func (m *Metrics) Use(cfg otlp.Config) error {
	if m.exporter == nil {
		return nil
	}
	next, err := connect(cfg)
	if err != nil {
		return err
	}
	m.exporter.use(next, cfg)
	return nil
}

// SetResource replaces the Resource, once more is known of the node.
func (m *Metrics) SetResource(r *resource.Resource) {
	if m.exporter != nil {
		m.exporter.setResource(r)
	}
}

// Outage returns since when the endpoint takes no metrics, why, and what to do. since
// is zero if it does take them.
func (m *Metrics) Outage() (since time.Time, reason string) {
	if m.exporter == nil {
		return time.Time{}, ""
	}
	return m.exporter.outage()
}

// Scrape returns how it is with scraping.
func (m *Metrics) Scrape() ScrapeStatus {
	if m.scrape == nil {
		return ScrapeStatus{Problem: m.unserved}
	}
	return m.scrape.status()
}

// Shutdown ends scraping, sends the final figures and stops, at the latest when ctx is
// done.
func (m *Metrics) Shutdown(ctx context.Context) {
	if m.scrape != nil {
		m.scrape.close()
	}
	if m.sent != nil {
		_ = m.sent.provider.Shutdown(ctx) // the exporter has logged its error
	}
}
