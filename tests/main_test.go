package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"clntrace/tests/lightningdtest"
)

// The programs that the tests run, built once.
var clntrace, sender string

func TestMain(m *testing.M) {
	dir, err := buildPrograms()
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

// buildPrograms builds what the tests run into a new directory, which users
// without rights may enter as well.
func buildPrograms() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "clntrace-tests"); err != nil {
		return "", err
	}
	if err = os.Chmod(dir, 0o755); err != nil {
		return dir, err
	}
	if sender, err = lightningdtest.BuildSender(dir); err != nil {
		return dir, err
	}
	if clntrace = os.Getenv("CLNTRACE_BINARY"); clntrace != "" {
		clntrace, err = filepath.Abs(clntrace)
		return dir, err
	}
	clntrace = filepath.Join(dir, "clntrace")
	build := exec.Command("go", "build", "-C", "..", "-o", clntrace)
	if raceEnabled {
		build.Args = append(build.Args, "-race")
	}
	build.Args = append(build.Args, ".")
	if out, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("building clntrace: %w\n%s", err, out)
	}
	return dir, nil
}

// patience is how long a test waits for what must come. It is never used up
// when all is well, so it may be generous to a busy machine.
const patience = 20 * time.Second
