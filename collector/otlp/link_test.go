package otlp

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowToClose is a client that takes that long to close.
type slowToClose struct {
	takes  time.Duration
	closed atomic.Bool
}

func (s *slowToClose) Close(context.Context) {
	time.Sleep(s.takes)
	s.closed.Store(true)
}

// At the end a client that was replaced is closed, too, in the time that there is.
func TestCloseWaitsForReplacedClients(t *testing.T) {
	const patience = 10 * time.Second
	for _, tc := range []struct {
		takes, waited time.Duration
		err           error
	}{
		{takes: time.Second, waited: time.Second},
		{takes: time.Minute, waited: patience, err: context.DeadlineExceeded},
	} {
		t.Run(tc.takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old := &slowToClose{takes: tc.takes}
				var l Link[*slowToClose]
				l.Replace(old, Config{}, func() {})
				l.Replace(new(slowToClose), Config{}, func() {})
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				begin := time.Now()
				if err := l.Close(ctx); !errors.Is(err, tc.err) {
					t.Errorf("got %v, want %v", err, tc.err)
				}
				if waited := time.Since(begin); waited != tc.waited {
					t.Errorf("waited for %v, want %v", waited, tc.waited)
				}
				if closed := old.closed.Load(); closed != (tc.err == nil) {
					t.Errorf("closed: %v", closed)
				}
				l.closing.Wait()
			})
		})
	}
}

// counted is a client that is one of those that are open until it is closed.
type counted struct{ open *atomic.Int64 }

func (c *counted) Close(context.Context) { c.open.Add(-1) }

// A change of the endpoint may come while the node stops: whichever is first, no
// client stays open.
func TestNoClientStaysOpenIfReplaceAndCloseComeTogether(t *testing.T) {
	for range 1000 {
		var open atomic.Int64
		var l Link[*counted]
		open.Add(2)
		l.Replace(&counted{&open}, Config{}, func() {})
		var replaced sync.WaitGroup
		replaced.Go(func() { l.Replace(&counted{&open}, Config{}, func() {}) })
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		replaced.Wait()
		if n := open.Load(); n != 0 {
			t.Fatalf("%d clients are open", n)
		}
	}
}
