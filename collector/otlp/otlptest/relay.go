package otlptest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Relay forwards connections, until it forgets those that it has.
type Relay struct {
	net.Listener

	to string

	mu        sync.Mutex
	forgotten *atomic.Bool // by the connections so far
	served    int          // connections
}

// NewRelay forwards what comes to the address to, until the end of the test.
func NewRelay(t testing.TB, to string) *Relay {
	t.Helper()
	r := &Relay{Listener: Listen(t), to: to, forgotten: new(atomic.Bool)}
	var pipes sync.WaitGroup
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			near, err := r.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			r.mu.Lock()
			forgotten := r.forgotten
			r.served++
			r.mu.Unlock()
			t.Cleanup(func() { near.Close(); far.Close() })
			pipes.Go(func() { pass(far, near, forgotten) })
			pipes.Go(func() { pass(near, far, forgotten) })
		}
	}()
	t.Cleanup(func() { _ = r.Close(); <-ended; pipes.Wait() })
	return r
}

// pass forwards what comes. What comes on a forgotten connection it reads, and drops.
func pass(to, from net.Conn, forgotten *atomic.Bool) {
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		if forgotten.Load() {
			_, _ = io.Copy(io.Discard, from)
			return // and closes nothing
		}
		if _, failed := to.Write(b[:n]); err != nil || failed != nil {
			to.Close()
			from.Close()
			return
		}
	}
}

// Forget stops forwarding on the connections that there are. They stay open.
func (r *Relay) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten.Store(true)
	r.forgotten = new(atomic.Bool)
}

// Connections is how many have been made.
func (r *Relay) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.served
}
