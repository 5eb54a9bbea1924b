package plugin

import (
	"bytes"
	"context"
	"io"
)

// maxChunks is how many pieces of output wait for who reads them: a table or a
// log line each.
const maxChunks = 256

// outlet is an output of collect that never keeps its writers waiting: whoever
// gathers a container's output can hang, and what receives spans must not hang
// with it. What finds no room is dropped.
type outlet struct {
	chunks chan []byte // nil: the end
	done   chan struct{}
}

var _ io.Writer = (*outlet)(nil)

// newOutlet writes to an output, and tells failed, if that is not nil, why it
// could not.
func newOutlet(to io.Writer, failed func(error)) *outlet {
	o := &outlet{make(chan []byte, maxChunks), make(chan struct{})}
	go func() {
		defer close(o.done)
		for chunk := range o.chunks {
			if chunk == nil {
				return
			}
			if _, err := to.Write(chunk); err != nil && failed != nil {
				failed(err)
			}
		}
	}()
	return o
}

// Write takes p or drops it, and says neither.
func (o *outlet) Write(p []byte) (int, error) {
	select {
	case o.chunks <- bytes.Clone(p):
	default:
	}
	return len(p), nil
}

// close lets what is left be written, for as long as ctx lasts.
func (o *outlet) close(ctx context.Context) {
	select {
	case o.chunks <- nil:
	case <-ctx.Done():
		return
	}
	select {
	case <-o.done:
	case <-ctx.Done():
	}
}
