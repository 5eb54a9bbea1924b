package otlp

import (
	"context"
	"sync"
)

// Client is a client of the SDK with its connection.
type Client interface {
	comparable
	// Close closes the client after its request. ctx bounds the wait for that.
	Close(ctx context.Context)
}

// Link is the way to the endpoint in use: one client at a time. The last one is closed
// when another takes its place, and all are by Close. The zero Link is off.
//
// Its lock is there for what its owner knows of the endpoint, too, so that no endpoint
// is blamed for what the last one has said.
type Link[C Client] struct {
	sync.Mutex

	client  C // zero: off
	config  Config
	changed chan struct{} // closed by the next change; nil: nobody waits for one
	stopped bool
	closing sync.WaitGroup // clients that are being closed; does not grow once stopped
}

// Replace makes next, which sends as cfg says, the client for everything that follows,
// and calls reset before anybody can use it, with the lock held. The last client is
// closed after its request, which has a timeout. Replace returns the endpoint that was
// in use before.
//
// After Close nothing follows, and next is closed instead.
func (l *Link[C]) Replace(next C, cfg Config, reset func()) (before Endpoint) {
	var none C
	l.Lock()
	defer l.Unlock()
	if l.stopped {
		if next != none {
			next.Close(context.Background()) // at once, for it has no request
		}
		return cfg.Endpoint
	}
	last := l.client
	before = l.config.Endpoint
	l.client, l.config = next, cfg
	reset()
	l.Wake()
	l.dispose(context.Background(), last)
	return before
}

// dispose closes c in the background. The caller holds the lock.
func (l *Link[C]) dispose(ctx context.Context, c C) {
	var none C
	if c != none {
		l.closing.Go(func() { c.Close(ctx) })
	}
}

// Current returns the client in use, which is the zero C if the link is off, and a
// channel that is closed when there is another, or by Wake.
func (l *Link[C]) Current() (client C, changed <-chan struct{}) {
	l.Lock()
	defer l.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.client, l.changed
}

// InUse reports whether c is the client in use. The caller holds the lock.
func (l *Link[C]) InUse(c C) bool { return l.client == c }

// Config is that of the client in use. The caller holds the lock.
func (l *Link[C]) Config() Config { return l.config }

// Wake ends the waits for a change. The caller holds the lock.
func (l *Link[C]) Wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Close closes the client in use and waits until the ones before are closed, too. It
// returns the error of ctx if that is done first.
func (l *Link[C]) Close(ctx context.Context) error {
	l.Lock()
	if !l.stopped {
		l.stopped = true
		l.dispose(ctx, l.client)
	}
	l.Unlock()
	closed := make(chan struct{})
	go func() {
		l.closing.Wait()
		close(closed)
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
