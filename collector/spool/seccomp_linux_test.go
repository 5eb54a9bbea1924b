package spool

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"clntrace/collector/probe/probetest"
)

var lacking = map[string]uintptr{"flock": unix.SYS_FLOCK}

func init() { probetest.Obey(lacking) }

// Without flock there is no spool, and it says what to do; nothing ends the process.
func TestWithoutFlock(t *testing.T) {
	probetest.Without(t, lacking, "^TestRemedyWithoutFlock$")
}

func TestRemedyWithoutFlock(t *testing.T) {
	if !probetest.Forbidden() {
		t.Skip("skipped: this is for TestWithoutFlock")
	}
	s := newSpool(t, roomy(t.TempDir()))
	if err := s.Open(); err == nil || !strings.Contains(err.Error(), "cannot be locked") ||
		!strings.Contains(err.Error(), "set clntrace-spool-dir to a local disk or allow flock") {
		t.Errorf("the error is %v", err)
	}
}
