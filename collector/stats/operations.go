package stats

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"clntrace/collector/process"
	"clntrace/collector/text"
)

const (
	// MaxOperations bounds the table. A node has some 450 operations; only a hostile
	// sender makes more than this.
	MaxOperations = 2000
	// maxProcesses bounds the senders kept. Some 30 run at once, and each start of
	// the node adds as many.
	maxProcesses = 1000
	// otherDetail stands for all operations beyond MaxOperations.
	otherDetail = "(other)"
	// rowsAtOnce is how many operations a report reads before it lets spans be
	// observed again. Their percentiles take some 0.1 ms.
	rowsAtOnce = 100
)

// maxText bounds each name of an operation. Those of lightningd have at most 60
// bytes, while a datagram has room for 2,000.
const maxText = 200 // bytes

// Clip returns the part of a name that tells operations apart.
func Clip(s string) string { return text.Clip(s, maxText) }

// Observation is what the statistics use of a span.
type Observation struct {
	Process  *process.Identity
	Span     string
	Detail   string        // RPC method or SQL summary
	Duration time.Duration // of the span
	Failed   bool
}

// Pairing is a request of a plugin that has been paired with lightningd's work on it.
type Pairing struct {
	Process *process.Identity
	Span    string
	Detail  string        // RPC method
	Wait    time.Duration // until lightningd began to work on it
	Work    time.Duration
	Answer  time.Duration // the rest
	Writes  bool          // whether lightningd writes to its database, and answers at once
}

type operationKey struct{ process, span, detail string }

type operation struct {
	count, errors, totalUS uint64
	latency                latency
	pairs                  *pairs // nil: none
}

// pairs sums up the requests of an operation that have been paired.
type pairs struct {
	count, waitUS, workUS, answerUS uint64
	wait                            latency
}

type sender struct {
	spans, errors uint64
	lastSeen      time.Time
}

// Operations counts spans by operation and by process. It is safe for
// concurrent use.
type Operations struct {
	mu         sync.Mutex
	operations operations
	payments   operations // those of payments and forwards
	requests   requests
	senders    map[*process.Identity]*sender
}

// requests are all that have been paired.
type requests struct {
	waits  Latency // for lightningd
	writes Latency // for the answers of those that write
}

// operations are at most MaxOperations, and one for all others.
type operations map[operationKey]*operation

// NewOperations returns an empty table.
func NewOperations() *Operations {
	return &Operations{
		operations: make(operations), payments: make(operations),
		senders: make(map[*process.Identity]*sender),
	}
}

// Observe counts spans that arrived at the time now.
func (t *Operations) Observe(spans []Observation, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range spans {
		s := &spans[i]
		t.operations.of(s).observe(s)
		from := t.sender(s.Process)
		from.spans++
		from.lastSeen = now
		if s.Failed {
			from.errors++
		}
	}
}

// ObserveDerived counts what was found out from spans and is none itself, and so does
// not count for its sender.
func (t *Operations) ObserveDerived(list []Observation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		t.operations.of(&list[i]).observe(&list[i])
	}
}

// ObservePairs counts requests that have been paired, and whose spans have been
// observed since the table was last emptied.
func (t *Operations) ObservePairs(list []Pairing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		p := &list[i]
		op := t.operations[operationKey{Clip(p.Process.Name), Clip(p.Span), Clip(p.Detail)}]
		if op == nil {
			continue
		}
		if op.pairs == nil {
			op.pairs = &pairs{wait: newLatency()}
		}
		op.pairs.observe(p)
		t.requests.waits.Observe(p.Wait)
		if p.Writes {
			t.requests.writes.Observe(p.Answer)
		}
	}
}

// Requests sums up the requests that have been paired since the table was last emptied.
func (t *Operations) Requests() Requests {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := &t.requests
	return Requests{
		Paired: q.waits.count, WaitAvgMS: q.waits.MeanMS(), WaitP99MS: q.waits.P99MS(),
		Writes: q.writes.count, AnswerAvgMS: q.writes.MeanMS(), AnswerP99MS: q.writes.P99MS(),
	}
}

func (o *pairs) observe(p *Pairing) {
	us := func(d time.Duration) uint64 { return uint64(max(d.Microseconds(), 0)) }
	o.count++
	o.waitUS += us(p.Wait)
	o.workUS += us(p.Work)
	o.answerUS += us(p.Answer)
	o.wait.observe(us(p.Wait))
}

// ObservePayments counts payments and forwards, which nobody has sent as spans. They
// have MaxOperations rows of their own.
func (t *Operations) ObservePayments(list []Observation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		t.payments.of(&list[i]).observe(&list[i])
	}
}

func (t operations) of(s *Observation) *operation {
	key := operationKey{Clip(s.Process.Name), Clip(s.Span), Clip(s.Detail)}
	if op := t[key]; op != nil {
		return op
	}
	if len(t) >= MaxOperations {
		key = operationKey{detail: otherDetail}
		if op := t[key]; op != nil {
			return op
		}
	}
	// Copies, because the strings may be parts of much longer ones.
	key = operationKey{strings.Clone(key.process), strings.Clone(key.span), strings.Clone(key.detail)}
	op := &operation{latency: newLatency()}
	t[key] = op
	return op
}

func (o *operation) observe(s *Observation) {
	us := uint64(max(s.Duration.Microseconds(), 0))
	o.count++
	o.totalUS += us
	o.latency.observe(us)
	if s.Failed {
		o.errors++
	}
}

func (t *Operations) sender(id *process.Identity) *sender {
	if s := t.senders[id]; s != nil {
		return s
	}
	if len(t.senders) >= maxProcesses {
		t.forgetOldest()
	}
	s := new(sender)
	t.senders[id] = s
	return s
}

func (t *Operations) forgetOldest() {
	var oldest *process.Identity
	for id, s := range t.senders {
		if oldest == nil || s.lastSeen.Before(t.senders[oldest].lastSeen) {
			oldest = id
		}
	}
	delete(t.senders, oldest)
}

// Processes returns the senders, busiest first.
func (t *Operations) Processes() []Process {
	t.mu.Lock()
	list := make([]Process, 0, len(t.senders))
	for id, s := range t.senders {
		list = append(list, Process{Clip(id.Name), id.PID, s.spans, s.errors, s.lastSeen.UTC().Truncate(time.Second)})
	}
	t.mu.Unlock()
	slices.SortFunc(list, func(a, b Process) int {
		return cmp.Or(cmp.Compare(b.Spans, a.Spans), strings.Compare(a.Name, b.Name), cmp.Compare(a.PID, b.PID))
	})
	return list
}

// ForgetPayments removes what ObservePayments has counted.
func (t *Operations) ForgetPayments() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.payments = make(operations)
}

// Operations answers q. If q.Reset is set the table is emptied in the same instant,
// so that no span is missed or reported twice. hides reports which operations may not be
// shown any more.
func (t *Operations) Operations(q Query, hides func(span, detail string) bool) []Operation {
	list := slices.DeleteFunc(t.rows(q.Reset), func(o Operation) bool { return hides(o.Span, o.Detail) })
	if part := strings.ToLower(q.Match); part != "" {
		list = slices.DeleteFunc(list, func(o Operation) bool {
			return !strings.Contains(strings.ToLower(o.Process), part) &&
				!strings.Contains(strings.ToLower(o.Span), part) &&
				!strings.Contains(strings.ToLower(o.Detail), part) &&
				!strings.Contains(strings.ToLower(o.what()), part)
		})
	}
	slices.SortFunc(list, func(a, b Operation) int {
		return cmp.Or(cmp.Compare(q.Sort.of(&b), q.Sort.of(&a)), cmp.Compare(b.Count, a.Count),
			strings.Compare(a.Process, b.Process), strings.Compare(a.Span, b.Span), strings.Compare(a.Detail, b.Detail))
	})
	return list[:min(max(q.Limit, 0), len(list))]
}

// entry is one operation of the table.
type entry struct {
	key operationKey
	*operation
}

// entries lists the table, and empties it if reset is set.
func (t *Operations) entries(reset bool) []entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]entry, 0, len(t.operations)+len(t.payments))
	for _, table := range []operations{t.operations, t.payments} {
		for key, op := range table {
			list = append(list, entry{key, op})
		}
	}
	if reset {
		t.operations, t.payments, t.requests = make(operations), make(operations), requests{}
	}
	return list
}

// rows reads the table a few operations at a time, because spans are waiting to be
// observed. Each row is consistent; the last ones are a little newer than the first.
func (t *Operations) rows(reset bool) []Operation {
	entries := t.entries(reset)
	list := make([]Operation, 0, len(entries))
	for some := range slices.Chunk(entries, rowsAtOnce) {
		t.mu.Lock()
		for _, e := range some {
			list = append(list, e.row())
		}
		t.mu.Unlock()
	}
	return list
}

func (e entry) row() Operation {
	o := Operation{
		Process: e.key.process, Span: e.key.span, Detail: e.key.detail,
		Count: e.count, Errors: e.errors,
		TotalMS: float64(e.totalUS) / 1000,
		AvgUS:   tenths(float64(e.totalUS) / float64(e.count)),
		MaxUS:   e.latency.maxUS,
	}
	p := e.latency.percentiles(e.count)
	o.P50US, o.P90US, o.P99US = p[0], p[1], p[2]
	if p := e.pairs; p != nil {
		n := float64(p.count)
		o.Paired = p.count
		o.WaitAvgUS, o.WorkAvgUS, o.AnswerAvgUS = tenths(float64(p.waitUS)/n), tenths(float64(p.workUS)/n), tenths(float64(p.answerUS)/n)
		o.WaitP99US = p.wait.percentiles(p.count)[2]
	}
	return o
}

// of returns the value of o that k sorts by.
func (k SortKey) of(o *Operation) float64 {
	switch k {
	case SortCount:
		return float64(o.Count)
	case SortAvg:
		return o.AvgUS
	case SortP99:
		return o.P99US
	case SortMax:
		return float64(o.MaxUS)
	case SortErrors:
		return float64(o.Errors)
	default:
		return o.TotalMS
	}
}
