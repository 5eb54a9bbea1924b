package probe

import (
	"testing"

	"golang.org/x/sys/unix"

	"clntrace/collector/probe/probetest"
)

// unneeded are system calls that a probe must not make, because old filters do not know
// them: package os/exec would.
var unneeded = map[string]uintptr{"pidfd_open": unix.SYS_PIDFD_OPEN}

func init() { probetest.Obey(unneeded) }

// What finds out what may be done must not be what ends the process.
func TestProbesEndNothing(t *testing.T) {
	probetest.Without(t, unneeded, "^TestSurvives$")
}
