package tests

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
)

// TestTracestatsUnderLoad asks for tracestats, with the usual number of rows and
// with all, while there are 2,000 operations and spans come. It logs how long the
// answers take, including the caller's own work, and whether asking costs spans. It
// asserts that each answer comes and has all its rows, but nothing about the times,
// which depend on the machine.
func TestTracestatsUnderLoad(t *testing.T) {
	const (
		operations = 2000
		questions  = 40
	)
	n, _ := launchWith(t, nil)
	var known, more [][]byte
	for i := range operations {
		known = append(known, spanOf(i, i))
	}
	for i := range 20_000 {
		more = append(more, spanOf(operations+i, i%operations))
	}
	loader := n.Senders(sender).Start("lightningd")
	send(t, loader, known...)
	waitStats(t, n, "all operations", func(r report) bool { return r.Datagrams.Accepted >= operations })

	t.Run("nothing sent", func(t *testing.T) {
		var took answers
		for range questions {
			took.ask(t, n)
		}
		took.tell(t)
	})
	t.Run("a node's highest peak, 16,000 a second", func(t *testing.T) {
		// First without asking, for comparison.
		silent := paced(t, loader, more[:4000], nil)
		var took answers
		asked := paced(t, loader, more[4000:8000], func() { took.ask(t, n) })
		took.tell(t)
		t.Logf("of 4,000 spans the kernel refused %d while nobody asked, and %d while somebody did", silent, asked)
	})
	t.Run("full speed", func(t *testing.T) {
		stop, done := make(chan struct{}), make(chan int, 1)
		end := sync.OnceFunc(func() { close(stop) })
		defer end()
		go func() {
			refused := 0
			for {
				select {
				case <-stop:
					done <- refused
					return
				default:
					refused += sendUnheard(t, loader, more)
				}
			}
		}()
		var took answers
		for range questions {
			took.ask(t, n)
		}
		end()
		t.Logf("the kernel refused %d spans", <-done)
		took.tell(t)
	})
	endCleanly(t, n)
}

// spanOf is a span of one of many operations.
func spanOf(id, operation int) []byte {
	return fmt.Appendf(nil, `[{"id":"%016x","name":"operation %d","timestamp":%d,"duration":%d,"localEndpoint":{"serviceName":"lightningd"},"tags":{},"traceId":"%032x"}]`,
		id+1, operation, time.Now().UnixMicro(), 100+operation, id+1)
}

// answers are the times that answers took.
type answers struct{ usual, whole []time.Duration }

// ask asks once for the usual rows and once for all.
func (a *answers) ask(t *testing.T, n *lightningdtest.Node) {
	t.Helper()
	a.usual = append(a.usual, answered(t, n, 20))
	a.whole = append(a.whole, answered(t, n, 2000))
}

func answered(t *testing.T, n *lightningdtest.Node, rows int) time.Duration {
	t.Helper()
	start := time.Now()
	answer, err := n.Call("tracestats", map[string]any{"limit": rows})
	took := time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Operations []json.RawMessage }
	if err := json.Unmarshal(answer, &r); err != nil || len(r.Operations) != rows {
		t.Fatalf("%d operations (%v)", len(r.Operations), err)
	}
	return took
}

// tell logs the times.
func (a *answers) tell(t *testing.T) {
	t.Helper()
	for _, of := range []struct {
		what string
		took []time.Duration
	}{{"20 rows", a.usual}, {"all rows", a.whole}} {
		if len(of.took) == 0 {
			t.Fatal("nobody asked")
		}
		slices.Sort(of.took)
		half, slowest := of.took[len(of.took)/2], of.took[len(of.took)-1]
		t.Logf("%s, %d answers: half within %v, the slowest in %v", of.what, len(of.took), half, slowest)
	}
}

// paced sends 8 spans every half ms, as lightningd does, and calls meanwhile every
// few ms. It returns how many spans the kernel refused.
func paced(t *testing.T, s *lightningdtest.Sender, payloads [][]byte, meanwhile func()) (refused int) {
	t.Helper()
	const each = 8 // a queue of the default limit holds 11
	sent := make(chan int, 1)
	go func() {
		refused := 0
		ticker := time.NewTicker(time.Millisecond / 2)
		defer ticker.Stop()
		for chunk := range slices.Chunk(payloads, each) {
			<-ticker.C
			refused += sendUnheard(t, s, chunk)
		}
		sent <- refused
	}()
	for {
		select {
		case refused := <-sent:
			return refused
		case <-time.After(5 * time.Millisecond):
			if meanwhile != nil {
				meanwhile()
			}
		}
	}
}

// sendUnheard sends as lightningd does and returns how many the kernel refused.
func sendUnheard(t *testing.T, s *lightningdtest.Sender, payloads [][]byte) (refused int) {
	t.Helper()
	errnos, err := s.Send(payloads...)
	if err != nil {
		t.Error(err)
	}
	for _, errno := range errnos {
		if errno == syscall.EAGAIN {
			refused++
		}
	}
	return refused
}
