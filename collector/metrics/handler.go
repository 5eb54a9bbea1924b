package metrics

import (
	"bytes"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// ServeHTTP answers a scrape, one at a time. Everything else is refused at once.
func (s *scrape) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/metrics":
		http.Error(w, "only /metrics is here", http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are allowed", http.StatusMethodNotAllowed)
	case s.options.MayServe != nil && !s.options.MayServe():
		http.Error(w, "the options of clntrace cannot be used, and nothing leaves until they are corrected", http.StatusServiceUnavailable)
	default:
		answer, ok := s.answer(r)
		if !ok {
			http.Error(w, "other scrapes are being answered", http.StatusServiceUnavailable)
			return
		}
		answer.copyTo(w)
	}
}

// answer answers r, in memory, so that a slow reader keeps nobody waiting. It reports
// false if it is not the turn of r in turnTime.
func (s *scrape) answer(r *http.Request) (*answer, bool) {
	select {
	case s.turn <- struct{}{}:
	case <-time.After(turnTime):
		return nil, false
	case <-r.Context().Done(): // whoever asked is gone
		return nil, false
	}
	began := time.Now()
	defer func() { // after a rest
		time.AfterFunc(min(time.Since(began)*(restShare-1), turnTime/2), func() { <-s.turn })
	}()
	if s.options.Retain != nil {
		s.retain(s.options.Retain)
	}
	to := &answer{header: make(http.Header), status: http.StatusOK}
	if strings.Contains(r.Header.Get("Accept"), "application/vnd.google.protobuf") {
		s.protobuf.ServeHTTP(to, r)
	} else {
		s.text.ServeHTTP(to, r)
	}
	if s.options.Yield != nil {
		s.options.Yield(time.Since(began))
	}
	return to, true
}

// answer is an answer in memory.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

var _ http.ResponseWriter = (*answer)(nil)

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *answer) copyTo(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // whoever is gone does not need it
}

// both gathers histograms that have explicit buckets and are native, too. The SDK's
// exporter makes either, but whoever asks for protobuf may want the one or the other.
type both struct{ classic, native prometheus.Gatherer }

// Gather gathers classic histograms, and adds to each what makes it native.
func (b both) Gather() ([]*dto.MetricFamily, error) {
	list, err := b.classic.Gather()
	if err != nil {
		return list, err
	}
	native, err := b.native.Gather() // later, so that its counts are not below those of the buckets
	if err != nil {
		return list, err
	}
	known := make(map[string]*dto.Histogram)
	eachHistogram(native, func(key string, h *dto.Histogram) { known[key] = h })
	eachHistogram(list, func(key string, h *dto.Histogram) {
		if n := known[key]; n != nil { // else the series has begun between the two
			buckets := h.Bucket
			proto.Reset(h)
			proto.Merge(h, n)
			h.Bucket = buckets
		}
	})
	return list, nil
}

// eachHistogram calls do with each histogram, and a key that tells them apart.
func eachHistogram(list []*dto.MetricFamily, do func(key string, h *dto.Histogram)) {
	for _, f := range list {
		for _, m := range f.GetMetric() {
			if m.GetHistogram() == nil {
				continue
			}
			parts := []string{f.GetName()}
			for _, l := range m.GetLabel() { // sorted by the registry
				parts = append(parts, l.GetName(), l.GetValue())
			}
			do(strings.Join(parts, "\xff"), m.Histogram)
		}
	}
}
