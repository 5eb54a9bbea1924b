package metrics

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/payments"
	"clntrace/collector/stats"
)

const (
	openMetrics = "application/openmetrics-text;version=1.0.0"
	protobuf    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// startScraped returns metrics that are only scraped, and the URL for that.
func startScraped(t testing.TB, log io.Writer, change ...func(*Options)) (*Metrics, string) {
	t.Helper()
	m := start(t, config(t, nil), log, append([]func(*Options){func(o *Options) { o.Send, o.Listen = false, "127.0.0.1:"+freePort(t) }}, change...)...)
	if s := m.Scrape(); s.Problem != nil {
		t.Fatal(s.Problem)
	}
	return m, "http://" + m.options.Listen + "/metrics"
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// scraper keeps no connections, which would be goroutines at the end of the tests.
var scraper = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}

func get(t testing.TB, url, accept string) (status int, body string, header http.Header) {
	t.Helper()
	r, _ := http.NewRequest(http.MethodGet, url, nil)
	r.Header.Set("Accept", accept)
	answer, err := scraper.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text), answer.Header
}

// timeSeries are the lines of a text format that are series.
func timeSeries(body string) (list []string) {
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "#") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}

func TestWhatIsScraped(t *testing.T) {
	m, url := startScraped(t, io.Discard, func(o *Options) {
		o.Payments = func() (payments.State, bool) { return payments.State{Open: 3, ForwardsOpen: 7}, true }
	})
	m.Observe(observed)
	m.Observe([]stats.Observation{{Process: xpay, Span: cln.SpanWhole, Detail: "xpay", Duration: 90 * time.Second, Failed: true}})
	m.ObserveWaits([]stats.Pairing{{Process: xpay, Span: "jsonrpc", Detail: "getroutes", Wait: 20 * time.Millisecond}})
	m.ObservePayments([]payments.Observation{
		{Kind: payments.KindPayment, Outcome: "success", Duration: 2 * time.Minute},
		{Kind: payments.KindForward, Outcome: "mpp_timeout", Failed: true, Duration: 2 * time.Hour},
	})
	status, body, header := get(t, url, "text/plain")
	if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		t.Errorf("status %d, %v", status, header)
	}
	for _, want := range []string{
		`cln_span_duration_seconds_bucket{span_name="db_exec_prepared",le="0.001"} 2`,
		`cln_span_duration_seconds_count{span_name="jsonrpc"} 1`,
		`cln_span_duration_seconds_bucket{error_type="_OTHER",span_name="jsonrpc",le="2.5"} 1`,
		`cln_span_duration_seconds_bucket{error_type="_OTHER",rpc_method="xpay",span_name="request",le="60"} 0`,
		`cln_span_duration_seconds_bucket{error_type="_OTHER",rpc_method="xpay",span_name="request",le="+Inf"} 1`,
		`cln_request_wait_seconds_bucket{rpc_method="getroutes",le="0.025"} 1`,
		`cln_payment_duration_seconds_bucket{outcome="success",le="600"} 1`,
		`cln_forward_duration_seconds_bucket{error_type="mpp_timeout",outcome="failed",phase="total",le="3600"} 0`,
		`cln_payment_open 3`, `cln_forward_open 7`,
		`clntrace_datagrams_total{outcome="accepted"} 7`, `clntrace_spans_total{outcome="exported"} 3`,
		`clntrace_queue_size 2`, `clntrace_spool_bytes 4096`,
	} {
		if !slices.Contains(timeSeries(body), want) {
			t.Errorf("%s is missing", want)
		}
	}
	for _, none := range []string{"UPDATE", "channels", "db_query_summary", "target_info", "otel_scope", "go_"} {
		if strings.Contains(body, none) {
			t.Errorf("there is %s", none)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

// families reads what a scraper that asks for protobuf gets.
func families(t testing.TB, url string) map[string]*dto.MetricFamily {
	t.Helper()
	_, body, header := get(t, url, protobuf)
	all, from := map[string]*dto.MetricFamily{}, expfmt.NewDecoder(strings.NewReader(body), expfmt.ResponseFormat(header))
	for {
		f := new(dto.MetricFamily)
		switch err := from.Decode(f); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		all[f.GetName()] = f
	}
}

// Whoever asks for protobuf gets histograms that are native and have buckets.
func TestNativeHistograms(t *testing.T) {
	m, url := startScraped(t, io.Discard)
	m.Observe(observed)
	for range 2 { // native ones are for ever, not for one scrape
		f := families(t, url)["cln_span_duration_seconds"]
		if f == nil || len(f.GetMetric()) != 5 {
			t.Fatalf("got %v", f)
		}
		for _, series := range f.GetMetric() {
			h := series.GetHistogram()
			if len(h.GetBucket()) < len(spanBuckets) || h.Schema == nil || len(h.GetPositiveSpan()) == 0 && h.GetZeroCount() == 0 || h.GetSampleCount() == 0 {
				t.Errorf("got %v", series)
			}
		}
	}
}

// An exemplar is the last span of its grade that left the node, or is in the recorder.
func TestExemplars(t *testing.T) {
	kept := map[trace.TraceID]bool{}
	m, url := startScraped(t, io.Discard, func(o *Options) {
		o.Retain = func(ids map[trace.TraceID]bool) {
			for id := range ids {
				if !kept[id] {
					delete(ids, id)
				}
			}
		}
	})
	m.Observe(observed)
	m.ObserveWaits([]stats.Pairing{{Process: xpay, Span: "jsonrpc", Detail: "getroutes", Wait: 20 * time.Millisecond}})
	id := func(n byte) trace.TraceID { return trace.TraceID{15: n} }
	for i, s := range []Example{
		{Observation: observed[0], TraceID: id(1), Exported: true},
		{Observation: observed[1], TraceID: id(2), Exported: true}, // takes the place of the first
		{Observation: observed[2], TraceID: id(3)},
		{Observation: observed[3], TraceID: id(4)},
		{Observation: observed[4], TraceID: id(5), Exported: true, Paired: true, Wait: 20 * time.Millisecond},
		{Observation: stats.Observation{Process: xpay, Span: "never observed"}, TraceID: id(6), Exported: true},
	} {
		s.SpanID = trace.SpanID{7: byte(i)}
		m.Exemplify(&s, time.Now())
	}
	kept[id(4)] = true
	_, body, _ := get(t, url, openMetrics)
	for n, want := range map[byte]int{1: 0, 2: 1, 3: 0, 4: 1, 5: 2, 6: 0} {
		if got := strings.Count(body, fmt.Sprintf(`trace_id="%v"`, id(n))); got != want {
			t.Errorf("%d exemplars of trace %d, want %d", got, n, want)
		}
	}
	delete(kept, id(4))
	if _, body, _ = get(t, url, openMetrics); strings.Contains(body, id(4).String()) {
		t.Error("an exemplar has remained whose trace is gone")
	}
	exemplars := 0
	for _, series := range families(t, url)["cln_span_duration_seconds"].GetMetric() {
		exemplars += len(series.GetHistogram().GetExemplars())
	}
	if exemplars != 2 {
		t.Errorf("native histograms have %d exemplars", exemplars)
	}
	if t.Failed() {
		t.Log(body)
	}
}

// A fast span does not hide the slow one before it.
func TestExemplarsAreInOrderOfTime(t *testing.T) {
	var l examples
	began := time.Now()
	l.put(example{seconds: 5, at: began})
	l.put(example{seconds: .0001, at: began.Add(time.Second)})
	var got []exemplar.Exemplar
	if l.Collect(&got); len(got) != 2 || !got[0].Time.Equal(began) {
		t.Errorf("got %v", got)
	}
}

// Whatever comes, there are at most 2,000 series, and nothing is missing.
func TestScrapedSeriesAreBounded(t *testing.T) {
	m, url := startScraped(t, io.Discard, func(o *Options) {
		o.Payments = func() (payments.State, bool) { return payments.State{}, true }
	})
	want := 0
	for i := range 500 {
		failed, name := i%2 == 0, fmt.Sprint("made up ", i/2)
		m.Observe([]stats.Observation{
			{Process: xpay, Span: name, Detail: name, Failed: failed},
			{Process: xpay, Span: cln.SpanWhole, Detail: name, Failed: failed},
		})
		want += 2
		m.ObserveWaits([]stats.Pairing{{Process: xpay, Detail: name}})
		for _, kind := range []payments.Kind{payments.KindPayment, payments.KindForward, payments.KindAccept, payments.KindDownstream} {
			m.ObservePayments([]payments.Observation{{Kind: kind, Outcome: name, Failed: true}, {Kind: kind, Outcome: "settled"}})
		}
	}
	_, body, _ := get(t, url, "")
	all, got := timeSeries(body), 0
	for _, s := range all {
		if rest, ok := strings.CutPrefix(s, "cln_span_duration_seconds_count"); ok {
			var n int
			fmt.Sscan(rest[strings.LastIndex(rest, " "):], &n)
			got += n
		}
	}
	if len(all) > 2000 || len(all) < 1500 || got != want || strings.Contains(body, "overflow") {
		t.Errorf("%d series, and %d of %d spans", len(all), got, want)
	}
}

func TestNothingButMetrics(t *testing.T) {
	allowed := true
	_, url := startScraped(t, io.Discard, func(o *Options) { o.MayServe = func() bool { return allowed } })
	base := strings.TrimSuffix(url, "/metrics")
	for _, tt := range []struct {
		method, url string
		status      int
	}{
		{"GET", url, 200}, {"HEAD", url, 200}, {"POST", url, 405}, {"DELETE", url, 405}, {"OPTIONS", url, 405}, {"GET", base, 404},
		{"GET", base + "/", 404}, {"GET", base + "//metrics", 404}, {"GET", base + "/metrics/../debug/pprof/", 404}, {"GET", base + "/debug/vars", 404},
	} {
		r, _ := http.NewRequest(tt.method, tt.url, nil)
		answer, err := scraper.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.url, answer.StatusCode, tt.status)
		}
	}
	allowed = false
	if status, body, _ := get(t, url, ""); status != http.StatusServiceUnavailable || strings.Contains(body, "clntrace_") {
		t.Errorf("with options that cannot be used: %d, %s", status, body)
	}
}

// The node starts, and what it sends arrives, whatever is wrong with the address.
func TestAddressThatCannotBeUsed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for address, want := range map[string]string{l.Addr().String(): "address already in use", "192.0.2.1:9464": "cannot assign", "nonexistent.invalid:1": "nonexistent.invalid"} {
		var log strings.Builder
		began := time.Now()
		m := start(t, config(t, nil), &log, func(o *Options) { o.Send, o.Listen = false, address })
		m.Observe(observed)
		if s := m.Scrape(); s.Problem == nil || !strings.Contains(s.Problem.Error(), want) || !strings.Contains(log.String(), want) {
			t.Errorf("%s: %v; the log: %s", address, s.Problem, log.String())
		}
		if took := time.Since(began); took > 2*bindTime {
			t.Errorf("%s: took %v", address, took)
		}
	}
	if m, _ := startScraped(t, io.Discard, func(o *Options) { o.Listen = ":" + freePort(t) }); m.Scrape().Exposed == "" {
		t.Error("all addresses are no exposure")
	}
	if m, _ := startScraped(t, io.Discard); m.Scrape() != (ScrapeStatus{}) {
		t.Errorf("got %v", m.Scrape())
	}
}

// An address that somebody else has is used when it is free.
func TestAddressThatBecomesFree(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, config(t, nil), io.Discard, func(o *Options) { o.Send, o.Listen = false, l.Addr().String() })
	m.Observe(observed)
	if m.Scrape().Problem == nil {
		t.Error("somebody else has the address")
	}
	l.Close()
	for end := time.Now().Add(3 * rebindTime); m.Scrape().Problem != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(m.Scrape().Problem)
		}
	}
	// What came before counts, too.
	if status, body, _ := get(t, "http://"+m.options.Listen+"/metrics", openMetrics); status != http.StatusOK || !strings.Contains(body, `span_name="extend_tip"`) {
		t.Errorf("%d, %s", status, body)
	}
}

// dying is a listener that ends with an error.
type dying struct{ net.Listener }

func (dying) Accept() (net.Conn, error) { return nil, errors.New("the interface is gone") }
func (dying) Close() error              { return nil }

func TestListenerDies(t *testing.T) {
	m, _ := startScraped(t, io.Discard)
	if closed := m.scrape.serve(dying{}); closed {
		t.Error("it was not closed")
	}
	m.Observe(observed)
	if s := m.Scrape(); s.Problem == nil || s.Problem.Error() != "the interface is gone" {
		t.Errorf("got %v", s.Problem)
	}
}

func TestOneScrapeAtATime(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	_, url := startScraped(t, io.Discard, func(o *Options) {
		o.Yield = func(time.Duration) { entered <- true; <-leave }
	})
	first := make(chan int)
	go func() {
		status, _, _ := get(t, url, "")
		first <- status
	}()
	<-entered
	if status, _, _ := get(t, url, ""); status != http.StatusServiceUnavailable {
		t.Errorf("the second scrape got %d", status)
	}
	close(leave)
	if status := <-first; status != http.StatusOK {
		t.Errorf("the first scrape got %d", status)
	}
}

// Scrapes without end leave the processor to others: each is followed by a rest.
func TestScrapesRest(t *testing.T) {
	const work = 20 * time.Millisecond
	var ended []time.Time
	_, url := startScraped(t, io.Discard, func(o *Options) {
		o.Yield = func(time.Duration) { time.Sleep(work); ended = append(ended, time.Now()) }
	})
	for range 3 {
		if status, _, _ := get(t, url, ""); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	for i := range 2 {
		if got, want := ended[i+1].Sub(ended[i]), restShare*work; got < want {
			t.Errorf("a scrape came %v after another, want %v at least", got, want)
		}
	}
}

// hostile are things that scrapers do who mean no good.
var hostile = map[string]func(c net.Conn){
	"sends nothing": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
	"sends a byte at a time": func(c net.Conn) { // with pauses, or it would not be slow
		for range 10_000 {
			if _, err := c.Write([]byte("G")); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	},
	"sends headers without end": func(c net.Conn) {
		_, _ = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n")
		for {
			if _, err := io.WriteString(c, "X-Long: "+strings.Repeat("x", 1<<10)+"\r\n"); err != nil {
				return
			}
		}
	},
	"sends a body without end": func(c net.Conn) {
		_, _ = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			if _, err := io.WriteString(c, "400\r\n"+strings.Repeat("x", 1<<10)+"\r\n"); err != nil {
				return
			}
		}
	},
	"asks and never reads": func(c net.Conn) {
		for range 1000 {
			if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				return
			}
		}
	},
}

// 100 scrapers that mean no good take no more than a few MB and a few goroutines, and
// Prometheus still gets its answer.
func TestHostileScrapers(t *testing.T) {
	for name, attack := range hostile {
		t.Run(name, func(t *testing.T) {
			m, url := startScraped(t, io.Discard)
			m.Observe(observed)
			address := m.options.Listen
			var open []net.Conn
			var attackers sync.WaitGroup
			defer func() {
				for _, c := range open {
					c.Close()
				}
			}()
			for range 100 {
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				_ = c.SetDeadline(time.Now().Add(3 * time.Second)) // ends those that wait for us
				open = append(open, c)
				attackers.Go(func() { attack(c) })
			}
			// The listener takes connections in their order, so all scrapes come after the attackers.
			scraped := 0
			for end := time.Now().Add(20 * time.Second); scraped < 10 && time.Now().Before(end); { // as Prometheus, which comes again
				r, _ := http.NewRequest(http.MethodGet, url, nil)
				answer, err := scraper.Do(r)
				if err != nil {
					continue
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if answer.StatusCode == http.StatusOK {
					scraped++
				}
			}
			if scraped < 10 {
				t.Errorf("%d scrapes were answered", scraped)
			}
			m.scrape.connections.mu.Lock()
			held := len(m.scrape.connections.list)
			m.scrape.connections.mu.Unlock()
			if held > maxConnections {
				t.Errorf("%d connections are open", held)
			}
			var memory runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&memory)
			if memory.HeapInuse > 40<<20 {
				t.Errorf("the heap has %d bytes", memory.HeapInuse)
			}
			for _, c := range open {
				c.Close()
			}
			attackers.Wait()
		})
	}
}

// A slow reader does not keep others waiting.
func TestSlowReader(t *testing.T) {
	m, url := startScraped(t, io.Discard)
	m.Observe(observed)
	c, err := net.Dial("tcp", m.options.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := bufio.NewReaderSize(c, 16).ReadByte(); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := get(t, url, ""); status != http.StatusOK {
		t.Errorf("beside a slow reader: %d", status)
	}
}

func BenchmarkScrape(b *testing.B) {
	m, url := startScraped(b, io.Discard)
	for i := range 25 {
		m.Observe([]stats.Observation{{Process: lightningd, Span: fmt.Sprint("span ", i), Duration: time.Duration(i) * time.Millisecond}})
		m.Observe([]stats.Observation{{Process: lightningd, Span: cln.SpanWhole, Detail: fmt.Sprint("method ", i), Duration: time.Duration(i) * time.Millisecond}})
	}
	for name, accept := range map[string]string{"text": openMetrics, "protobuf": protobuf} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, body, _ := get(b, url, accept)
				b.ReportMetric(float64(len(body)), "bytes")
			}
		})
	}
}
