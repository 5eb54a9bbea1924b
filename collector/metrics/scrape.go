package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"clntrace/collector/cln"
)

// A histogram with explicit buckets takes 14 series of Prometheus, one of payments or
// forwards 15. So all of these together, and their counterparts for what is beyond the
// bounds, make some 1,980, and other metrics 13.
const (
	maxScrapedSpans   = 25 // names, each with a series for those that failed
	maxScrapedMethods = 20 // of requests as a whole, likewise
	maxScrapedWaits   = 19 // methods
	maxScrapedReasons = 9  // for which payments fail
	maxForwardReasons = 3  // for each phase of a forward
)

const (
	// bindTime is how long finding the address to listen on may take: init waits for it.
	bindTime = time.Second
	// rebindTime is how often an address that cannot be used is tried again. It may be
	// that of a clntrace before, which still sends what is left.
	rebindTime = 10 * time.Second
	// readTime and writeTime bound a request and its answer.
	readTime  = 5 * time.Second
	writeTime = 10 * time.Second
	// maxHeader bounds a request, bytes. The standard library adds 4 KiB.
	maxHeader = 4 << 10
	// maxConnections is how many connections may be open. The oldest makes room.
	maxConnections = 16
	// restShare is how many times as long as the work for a scrape its turn lasts, so that
	// scrapes without end keep a tenth of a processor busy.
	restShare = 10
	// turnTime is how long a scrape waits for its turn, such as that of a second Prometheus.
	turnTime = time.Second
	// acceptPause follows a connection for which another had to make room, so that
	// connections without end cost little, and one that is accepted lives long enough to
	// be answered.
	acceptPause = 5 * time.Millisecond
)

// ScrapeStatus says how it is with scraping.
type ScrapeStatus struct {
	// Problem is why Prometheus cannot scrape; nil: it can, or there is nothing to.
	Problem error
	// Exposed is the address if it is not on the loopback interface.
	Exposed string
}

// scrape serves metrics to Prometheus.
type scrape struct {
	*meter
	options               *Options
	spans, methods, waits names // that have series of their own

	server         *http.Server
	text, protobuf http.Handler
	turn           chan struct{} // full while a scrape is being answered, and for a rest
	connections    connections
	closed         chan struct{}
	served         sync.WaitGroup

	mu      sync.Mutex
	problem error  // why nobody can scrape; nil: nothing
	exposed string // the address, if it is not on the loopback interface
}

// startScrape binds the address, and begins to serve. An address that cannot be bound
// is tried again.
func startScrape(o *Options) (*scrape, error) {
	s := &scrape{
		options: o, spans: newNames(maxScrapedSpans), methods: newNames(maxScrapedMethods), waits: newNames(maxScrapedWaits),
		turn: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	s.server = &http.Server{
		Handler: s, ReadHeaderTimeout: readTime, ReadTimeout: readTime, WriteTimeout: writeTime,
		MaxHeaderBytes: maxHeader, ConnState: s.connections.changed, DisableGeneralOptionsHandler: true,
		ErrorLog: log.New(io.Discard, "", 0), // whoever connects could fill ours
	}
	s.server.SetKeepAlivesEnabled(false) // nor may anybody ask a thousand times at once
	l, err := s.listen()
	if err != nil {
		s.fail(err, "cannot scrape")
	}
	s.served.Go(func() { s.run(l) })
	return s, nil
}

// listen binds the address.
func (s *scrape) listen() (net.Listener, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bindTime)
	defer cancel()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.options.Listen)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem, s.exposed = nil, ""
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		s.exposed = l.Addr().String()
	}
	return l, nil
}

// run answers over l, and over what takes its place when it is nil or dies, until close.
func (s *scrape) run(l net.Listener) {
	for {
		if l != nil && s.serve(l) {
			return
		}
		if l = s.listenAgain(); l == nil {
			return
		}
		s.options.Logger.Info(fmt.Sprintf("Prometheus can scrape %s now", s.options.Listen))
	}
}

// serve answers over l until close, and reports false if l dies before.
func (s *scrape) serve(l net.Listener) (closed bool) {
	err := s.server.Serve(l)
	if closed = errors.Is(err, http.ErrServerClosed); !closed {
		s.fail(err, "can no longer scrape")
	}
	return closed
}

// listenAgain tries to bind the address until it can. It returns nil after close.
func (s *scrape) listenAgain() net.Listener {
	again := time.NewTicker(rebindTime)
	defer again.Stop()
	for {
		select {
		case <-again.C:
		case <-s.closed:
			return nil
		}
		if l, err := s.listen(); err == nil {
			return l
		}
	}
}

func (s *scrape) fail(err error, what string) {
	s.options.Logger.Warn(fmt.Sprintf("Prometheus %s %s: %v", what, s.options.Listen, err))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem, s.exposed = err, ""
}

func (s *scrape) status() ScrapeStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ScrapeStatus{Problem: s.problem, Exposed: s.exposed}
}

// prepare makes the instruments and the handlers.
func (s *scrape) prepare() error {
	classic, native := prometheus.NewRegistry(), prometheus.NewRegistry()
	withBuckets, err := newReader(classic, sdkmetric.DefaultAggregationSelector)
	if err != nil {
		return err
	}
	without, err := newReader(native, exponentially)
	if err != nil {
		return err
	}
	s.meter, err = newMeter(s.options, bounds{reasons: maxScrapedReasons, forwardReasons: maxForwardReasons}, withBuckets, without)
	if err != nil {
		return err
	}
	// The body is small, and a compressor would take 800 kB.
	how := promhttp.HandlerOpts{EnableOpenMetrics: true, DisableCompression: true}
	s.text, s.protobuf = promhttp.HandlerFor(showable{classic, s.options}, how), promhttp.HandlerFor(showable{both{classic, native}, s.options}, how)
	return nil
}

// newReader returns the SDK's exporter. Labels of its scope and its resource would say
// the same in every series.
func newReader(r prometheus.Registerer, histograms sdkmetric.AggregationSelector) (sdkmetric.Reader, error) {
	return otelprometheus.New(otelprometheus.WithRegisterer(r), otelprometheus.WithAggregationSelector(histograms),
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
		otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
}

// attributes are those of an operation where Prometheus may scrape it: spans have
// their name, and requests as a whole their method.
func (s *scrape) attributes(o operation) []attribute.KeyValue {
	var list []attribute.KeyValue
	if o.span == cln.SpanWhole {
		list = append(list, semconv.RPCMethod(s.methods.of(o.detail, otherValue)))
	} else {
		o.span = s.spans.of(o.span, otherSpan)
	}
	list = append(list, attribute.String("span.name", o.span))
	if o.failed {
		list = append(list, semconv.ErrorTypeOther)
	}
	return list
}

// close ends it at once.
func (s *scrape) close() {
	close(s.closed)
	_ = s.server.Close()                          // of connections that nobody needs any more
	s.served.Wait()                               // at most bindTime
	_ = s.provider.Shutdown(context.Background()) // its readers have nothing to flush
}

// connections are those that are open, the oldest first.
type connections struct {
	mu   sync.Mutex
	list []net.Conn
}

// changed is told of each change of a connection. The server accepts no other meanwhile.
func (c *connections) changed(conn net.Conn, to http.ConnState) {
	switch to {
	case http.StateNew:
		if c.add(conn) {
			time.Sleep(acceptPause)
		}
	case http.StateClosed, http.StateHijacked:
		c.remove(conn)
	}
}

// add closes the oldest connection if there are too many, so that nobody can keep others
// away by holding connections. It reports whether it has.
func (c *connections) add(conn net.Conn) (full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if full = len(c.list) >= maxConnections; full {
		c.list[0].Close()
		c.list = slices.Delete(c.list, 0, 1)
	}
	c.list = append(c.list, conn)
	return full
}

func (c *connections) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.list, conn); i >= 0 {
		c.list = slices.Delete(c.list, i, i+1)
	}
}
