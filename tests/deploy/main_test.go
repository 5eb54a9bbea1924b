//go:build linux

package deploy

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

// The programs that the tests run, built once. clntrace is static, as in a
// release: it must run in a root directory that holds nothing else.
var clntrace, sender, collector string

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
	if dir, err = os.MkdirTemp("", "clntrace-deploy"); err != nil {
		return "", err
	}
	if err = os.Chmod(dir, 0o755); err != nil {
		return dir, err
	}
	if sender, err = lightningdtest.BuildSender(dir); err != nil {
		return dir, err
	}
	clntrace, collector = filepath.Join(dir, "clntrace"), filepath.Join(dir, "otelcol")
	for path, source := range map[string][]string{clntrace: {"-C", "../..", "."}, collector: {"-C", ".", "./otelcol"}} {
		build := exec.Command("go", "build", source[0], source[1], "-o", path, source[2])
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("building %s: %w\n%s", filepath.Base(path), err, out)
		}
	}
	return dir, nil
}

const (
	// patience is how long a test waits for what must come. It is never used
	// up when all is well, so it may be generous to a busy machine.
	patience = 30 * time.Second
	// pollPause is between two looks at what gives no signal.
	pollPause = 20 * time.Millisecond
)

func waitFor(t *testing.T, what string, done func() bool) {
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
