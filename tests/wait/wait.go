// Package wait has what the tests wait with.
package wait

import (
	"testing"
	"time"
)

// Limit is how long a test waits for what must come. It is never used up when all is
// well, so it may be generous to a busy machine.
const Limit = time.Minute

// Pause is the time between two looks at what gives no signal.
const Pause = 20 * time.Millisecond

// For polls until done, where there is no signal to wait for. The test fails and ends
// if that takes longer than Limit.
func For(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(Limit)
	ticker := time.NewTicker(Pause)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited %v for %s", Limit, what)
		}
	}
}
