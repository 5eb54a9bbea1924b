package collector

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/policy"
	"clntrace/collector/stats"
)

const (
	// longWait is how long a request waits for lightningd that is worth a warning: twice
	// the longest wait seen while twenty payments were under way at once (250 ms), and
	// long enough to be felt in each of the dozen requests of a payment.
	longWait = 500 * time.Millisecond
	// longWork is the least duration of a root span of lightningd that can have to do
	// with a long wait: ten of them fill it. The recordings have at most 19 of them in
	// minutes.
	longWork = longWait / 10
	// keptWork is how many of these are kept: those of a wait of seconds.
	keptWork = 64
	// namedWork is how many of them a warning names.
	namedWork = 3

	// slowWrite is how long the answer to a method that writes takes in the median if the
	// disk is slow. On the recordings it took 2 to 9 ms, of which some were made on a
	// machine with a busy disk; a disk of rotating platters needs 10 to 30 ms.
	slowWrite = 50 * time.Millisecond
	// writesJudged is how many answers the median is of, so that a single one that was
	// slow for another reason is no disk that is slow.
	writesJudged = 16
)

// waits remembers where requests waited long for lightningd, and what it did
// meanwhile, and how long it takes to write. It is safe for concurrent use.
type waits struct {
	mu      sync.Mutex
	work    [keptWork]work // a ring
	next    int
	long    uint64        // requests that waited long
	longest waited        // of them, in the last hour
	writes  answers       // to methods that write
	slow    uint64        // answers at which writing was found slow
	median  time.Duration // then
}

// work is a long root span of lightningd.
type work struct {
	what       string
	pid        int32
	start, end int64 // µs
}

// waited is a request that waited long for lightningd.
type waited struct {
	process, method string
	wait            time.Duration
	at              time.Time // when it was found out
	meanwhile       []busy    // the largest root spans of lightningd in that time, the largest first
}

// busy is a span, and how much of it was in a certain time.
type busy struct {
	what string
	took time.Duration
}

// answers are the last writesJudged durations, a ring.
type answers struct {
	took  [writesJudged]time.Duration
	count int
}

// add returns the median once there are enough answers.
func (a *answers) add(took time.Duration) (median time.Duration, enough bool) {
	a.took[a.count%writesJudged] = took
	a.count++
	if a.count < writesJudged {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(a.took[:]))
	return sorted[writesJudged/2], true
}

// forget forgets what is told with names, because more of them are to be hidden.
func (w *waits) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.work, w.longest = [keptWork]work{}, waited{}
}

// isWork reports whether a span is to be remembered as long work of lightningd. What
// asks the bitcoin backend is none: lightningd goes on meanwhile.
func isWork(s *correlate.Span) bool {
	return s.Duration >= longWork.Microseconds() && !s.ParentID.IsValid() &&
		s.Process.Name == cln.Daemon && s.Name != cln.SpanBackend
}

// worked remembers a span for which isWork holds, with what may be shown of it.
func (w *waits) worked(s *correlate.Span, detail string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.work[w.next%keptWork] = work{cln.What(s.Process.Name, s.Name, detail), s.Process.PID, s.Timestamp, s.End().UnixMicro()}
	w.next++
}

// paired remembers what is worth it of a request that has been paired.
func (w *waits) paired(s *correlate.Span, p *stats.Pairing, now time.Time) {
	if p.Wait < longWait && !p.Writes {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.Writes {
		if median, enough := w.writes.add(p.Answer); enough && median >= slowWrite {
			w.slow++
			w.median = median
		}
	}
	if p.Wait < longWait {
		return
	}
	w.long++
	if p.Wait > w.longest.wait || now.Sub(w.longest.at) > warningLife {
		w.longest = waited{p.Process.Name, p.Detail, p.Wait, now, w.meanwhile(s)}
	}
}

// meanwhile returns the largest root spans of the request's lightningd while it waited.
func (w *waits) meanwhile(s *correlate.Span) (list []busy) {
	from, to := s.Timestamp, s.Timestamp+s.Wait.Microseconds()
	for _, k := range w.work {
		took := time.Duration(min(k.end, to)-max(k.start, from)) * time.Microsecond
		if node := s.Process.ParentPID; took >= longWork && (node == k.pid || node == 0) {
			list = append(list, busy{k.what, took})
		}
	}
	slices.SortFunc(list, func(a, b busy) int { return cmp.Compare(b.took, a.took) })
	return list[:min(len(list), namedWork)]
}

// counts returns how many requests waited long, and how often writing was slow.
func (w *waits) counts() (long, slow uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.long, w.slow
}

// facts returns the longest wait of the last hour, and the median with which writing was
// last slow.
func (w *waits) facts() (longest waited, slowest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.longest, w.median
}

// pairing is what the statistics use of a request that has been paired.
func pairing(s *correlate.Span, shown *policy.Policy) stats.Pairing {
	return stats.Pairing{
		Process: s.Process, Span: s.Name, Detail: shown.Detail(s), Wait: s.Wait, Work: s.Work,
		Answer: time.Duration(s.Duration)*time.Microsecond - s.Wait - s.Work, Writes: cln.Writes(s.Detail),
	}
}
