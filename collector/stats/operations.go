package stats

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"clntrace/collector/process"
)

const (
	// MaxOperations bounds the table: a node knows some 450 operations, and
	// only a hostile sender makes more.
	MaxOperations = 2000
	// maxProcesses bounds the senders remembered: some 30 run at once, and each
	// start of the node adds as many.
	maxProcesses = 1000
	// otherDetail stands for all operations beyond MaxOperations.
	otherDetail = "(other)"
)

// Observation is one span, as the statistics see it.
type Observation struct {
	Process  *process.Identity
	Span     string
	Detail   string        // RPC method or SQL summary
	Duration time.Duration // of the span
	Failed   bool
}

type operationKey struct{ process, span, detail string }

type operation struct {
	count, errors, totalUS, maxUS uint64
}

type sender struct {
	spans, errors uint64
	lastSeen      time.Time
}

// Operations counts spans by operation and by process. It is safe for
// concurrent use.
type Operations struct {
	mu         sync.Mutex
	operations map[operationKey]*operation
	senders    map[*process.Identity]*sender
}

// NewOperations returns an empty table.
func NewOperations() *Operations {
	return &Operations{
		operations: make(map[operationKey]*operation),
		senders:    make(map[*process.Identity]*sender),
	}
}

// Observe counts spans that arrived at the time now.
func (t *Operations) Observe(spans []Observation, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range spans {
		s := &spans[i]
		t.operation(s).observe(s)
		from := t.sender(s.Process)
		from.spans++
		from.lastSeen = now
		if s.Failed {
			from.errors++
		}
	}
}

func (t *Operations) operation(s *Observation) *operation {
	key := operationKey{s.Process.Name, s.Span, s.Detail}
	if op := t.operations[key]; op != nil {
		return op
	}
	if len(t.operations) >= MaxOperations {
		key = operationKey{detail: otherDetail}
		if op := t.operations[key]; op != nil {
			return op
		}
	}
	op := new(operation)
	t.operations[key] = op
	return op
}

func (o *operation) observe(s *Observation) {
	us := uint64(max(s.Duration.Microseconds(), 0))
	o.count++
	o.totalUS += us
	o.maxUS = max(o.maxUS, us)
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
		list = append(list, Process{id.Name, id.PID, s.spans, s.errors, s.lastSeen.UTC().Truncate(time.Second)})
	}
	t.mu.Unlock()
	slices.SortFunc(list, func(a, b Process) int {
		return cmp.Or(cmp.Compare(b.Spans, a.Spans), strings.Compare(a.Name, b.Name), cmp.Compare(a.PID, b.PID))
	})
	return list
}

// Operations answers q. With q.Reset the counts begin anew in the same
// instant, so that no span is missed or reported twice.
func (t *Operations) Operations(q Query) []Operation {
	list := t.rows(q.Reset)
	if part := strings.ToLower(q.Match); part != "" {
		list = slices.DeleteFunc(list, func(o Operation) bool {
			return !strings.Contains(strings.ToLower(o.Process), part) &&
				!strings.Contains(strings.ToLower(o.Span), part) &&
				!strings.Contains(strings.ToLower(o.Detail), part)
		})
	}
	by := q.Sort.value()
	slices.SortFunc(list, func(a, b Operation) int {
		return cmp.Or(cmp.Compare(by(&b), by(&a)), cmp.Compare(b.Count, a.Count),
			strings.Compare(a.Process, b.Process), strings.Compare(a.Span, b.Span), strings.Compare(a.Detail, b.Detail))
	})
	return list[:min(max(q.Limit, 0), len(list))]
}

// rows copies the table under the lock and leaves what takes longer to the
// caller, for spans are waiting to be observed.
func (t *Operations) rows(reset bool) []Operation {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Operation, 0, len(t.operations))
	for key, op := range t.operations {
		list = append(list, Operation{
			Process: key.process, Span: key.span, Detail: key.detail,
			Count: op.count, Errors: op.errors,
			TotalMS: float64(op.totalUS) / 1000,
			AvgUS:   float64(op.totalUS) / float64(op.count),
			MaxUS:   op.maxUS,
		})
	}
	if reset {
		clear(t.operations)
	}
	return list
}

func (k SortKey) value() func(*Operation) float64 {
	switch k {
	case SortCount:
		return func(o *Operation) float64 { return float64(o.Count) }
	case SortAvg:
		return func(o *Operation) float64 { return o.AvgUS }
	case SortP99:
		return func(o *Operation) float64 { return o.P99US }
	case SortMax:
		return func(o *Operation) float64 { return float64(o.MaxUS) }
	case SortErrors:
		return func(o *Operation) float64 { return float64(o.Errors) }
	default:
		return func(o *Operation) float64 { return o.TotalMS }
	}
}
