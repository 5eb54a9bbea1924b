//go:build linux

// Forwarder takes trace datagrams from a socket to the zipkin receiver of an
// OpenTelemetry Collector. It is what somebody would write who has a Collector:
// the datagrams are zipkin already, so they only need to be put together.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"clntrace/tests/bench/unixgram"
)

const (
	batchLen   = 500 // spans
	batchDelay = time.Second
	// queueLen is how many batches wait while the Collector is busy: about as
	// many spans as clntrace's queue holds.
	queueLen = 65536 / batchLen
	// posters post at once. More than one, so that a request's way there and
	// back is not what limits the rate.
	posters     = 4
	maxDatagram = 2048 // bytes; lightningd cuts what is longer
)

// batch is a JSON array of spans without its end.
type batch struct {
	body  []byte
	spans int64
	begun time.Time
}

// add appends the span of a datagram, which is an array of one.
func (b *batch) add(datagram []byte) {
	if b.spans == 0 {
		b.begun = time.Now()
		b.body = append(b.body, '[')
	} else {
		b.body = append(b.body, ',')
	}
	b.body = append(b.body, bytes.TrimSuffix(bytes.TrimPrefix(datagram, []byte("[")), []byte("]"))...)
	b.spans++
}

// forwarder counts what becomes of the spans.
type forwarder struct {
	url      string
	queue    chan batch
	posting  sync.WaitGroup
	received int64
	dropped  int64 // the queue was full
	refused  atomic.Int64
}

// read takes datagrams until it is to stop and the socket is empty.
func (f *forwarder) read(fd int, stopping *atomic.Bool) error {
	runtime.LockOSThread()
	var b batch
	for buffer := make([]byte, maxDatagram); ; {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		switch err {
		case nil:
			f.received++
			b.add(buffer[:n])
		case unix.EINTR:
		case unix.EAGAIN:
			if stopping.Load() {
				f.pass(&b)
				return nil
			}
		default:
			return os.NewSyscallError("recvfrom", err)
		}
		if b.spans == batchLen || b.spans > 0 && time.Since(b.begun) > batchDelay {
			f.pass(&b)
		}
	}
}

// pass hands b to those who post, and begins anew.
func (f *forwarder) pass(b *batch) {
	if b.spans == 0 {
		return
	}
	select {
	case f.queue <- *b:
	default:
		f.dropped += b.spans
	}
	*b = batch{body: make([]byte, 0, cap(b.body))}
}

// post posts batches until there are no more.
func (f *forwarder) post() {
	defer f.posting.Done()
	client := http.Client{Timeout: 10 * time.Second}
	for b := range f.queue {
		response, err := client.Post(f.url, "application/json", bytes.NewReader(append(b.body, ']')))
		if err != nil {
			f.refused.Add(b.spans)
			continue
		}
		_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
		response.Body.Close()
		if response.StatusCode >= 300 {
			f.refused.Add(b.spans)
		}
	}
}

func run(path, address string) error {
	var stopping atomic.Bool
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	go func() { <-terminated; stopping.Store(true) }()

	fd, err := unixgram.Listen(path)
	if err != nil {
		return err
	}
	f := forwarder{url: "http://" + address + "/api/v2/spans", queue: make(chan batch, queueLen)}
	for range posters {
		f.posting.Add(1)
		go f.post()
	}
	if err := f.read(fd, &stopping); err != nil {
		return err
	}
	close(f.queue)
	f.posting.Wait()
	return json.NewEncoder(os.Stdout).Encode(map[string]int64{
		"received": f.received, "dropped": f.dropped, "refused": f.refused.Load(),
	})
}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
