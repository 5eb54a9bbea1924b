package patient

import (
	"context"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatFindsNoRoomIsCounted(t *testing.T) {
	q := New[int](3)
	for i := range 5 {
		q.Put(i) // nobody reads: it must not wait
	}
	var passed []int
	var lost []uint64
	go q.Run(func(i int) { passed = append(passed, i) }, func(n uint64) { lost = append(lost, n) })
	q.Close(t.Context())
	if !slices.Equal(passed, []int{0, 1, 2}) || !slices.Equal(lost, []uint64{2}) {
		t.Errorf("passed %v, lost %v", passed, lost)
	}
}

func TestCloseDoesNotWaitForWhoBlocks(t *testing.T) {
	q := New[int](3)
	blocked, release := make(chan struct{}), make(chan struct{})
	go q.Run(func(i int) {
		if i == 1 {
			close(blocked)
			<-release
		}
	}, func(uint64) {})
	q.Put(1)
	<-blocked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q.Close(ctx)
	q.Put(2) // still does not wait
	close(release)
	<-q.done
}
