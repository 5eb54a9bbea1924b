package lightningdtest

import (
	"bytes"
	"io"
	"sync"
)

// Buffer collects the output of a process while a test looks at it. It is safe for
// concurrent use. The zero Buffer is ready to use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends p.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is what has been written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// gate is a reader that can be shut. A Read that is already waiting when the gate is
// shut still returns the next data.
type gate struct {
	r      io.Reader
	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open
}

func newGate(r io.Reader) *gate {
	g := &gate{r: r, opened: make(chan struct{})}
	close(g.opened)
	return g
}

func (g *gate) Read(p []byte) (int, error) {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	<-opened
	return g.r.Read(p)
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}
