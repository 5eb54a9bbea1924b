package lightningdtest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main is the body of a TestMain. It has build put programs into a new directory,
// which other users may enter too, runs the tests, and fails if they leave
// goroutines behind.
func Main(m *testing.M, build func(dir string) error) {
	dir, err := os.MkdirTemp("", "clntrace-tests")
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // see above
	}
	if err == nil {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}))
}

// pollPause is the time between two looks at what gives no signal.
const pollPause = 20 * time.Millisecond

// WaitFor polls until done, where there is no signal to wait for. The test fails and
// ends if that takes longer than patience.
func WaitFor(t testing.TB, patience time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(pollPause)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}
