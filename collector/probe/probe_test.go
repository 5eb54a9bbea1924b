package probe

import (
	"os"
	"syscall"
	"testing"
)

// These are what a child process of the test may be.
var (
	harmless = New("harmless", func() {})
	fatal    = New("fatal", func() { _ = syscall.Kill(os.Getpid(), syscall.SIGSYS) })
)

func TestSurvives(t *testing.T) {
	if !survives("harmless") {
		t.Error("a call that does nothing ended the process")
	}
	if survives("fatal") {
		t.Error("a call that ends the process is allowed")
	}
}

func TestWithoutAFilterAllIsAllowed(t *testing.T) {
	if filtered() {
		t.Skip("skipped: this process has a seccomp filter, or its status is not known")
	}
	Try(harmless, fatal)
	if !harmless.Allowed() || !fatal.Allowed() {
		t.Error("not all is allowed")
	}
}
