// Package patient holds a queue in front of somebody who may be slow, or never read
// at all: lightningd behind its pipe, or what gathers a container's output. Those who
// put something into the queue never wait for them.
package patient

import (
	"context"
	"sync/atomic"
)

// Queue passes items on in the order in which they came. What finds no room is
// dropped and counted.
type Queue[T any] struct {
	items   chan T
	dropped atomic.Uint64
	quit    chan struct{}
	done    chan struct{}
}

// New returns a Queue with room for that many items.
func New[T any](room int) *Queue[T] {
	return &Queue[T]{
		items: make(chan T, room),
		quit:  make(chan struct{}), done: make(chan struct{}),
	}
}

// Put adds an item, or drops it. It never waits, and may be called at any time.
func (q *Queue[T]) Put(item T) {
	select {
	case q.items <- item:
	default:
		q.dropped.Add(1)
	}
}

// Run passes items to pass, which may block, until Close. When items have been
// dropped it tells lost how many, behind the next item that was not. It is called
// once.
func (q *Queue[T]) Run(pass func(T), lost func(n uint64)) {
	defer close(q.done)
	forward := func(item T) {
		pass(item)
		if n := q.dropped.Swap(0); n > 0 {
			lost(n)
		}
	}
	for {
		select {
		case item := <-q.items:
			forward(item)
		case <-q.quit:
			for {
				select {
				case item := <-q.items:
					forward(item)
				default:
					return
				}
			}
		}
	}
}

// Close lets Run pass on what is left, until ctx is done. It is called once.
func (q *Queue[T]) Close(ctx context.Context) {
	close(q.quit)
	select {
	case <-q.done:
	case <-ctx.Done():
	}
}
