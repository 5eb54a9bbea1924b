package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"clntrace/tests/lightningdtest"
)

// The programs that the tests run, built once, and where.
var clntrace, sender, programs string

func TestMain(m *testing.M) { lightningdtest.Main(m, buildPrograms) }

// buildPrograms builds what the tests run into dir.
func buildPrograms(dir string) (err error) {
	programs = dir
	if sender, err = lightningdtest.BuildSender(dir); err != nil {
		return err
	}
	if clntrace = os.Getenv("CLNTRACE_BINARY"); clntrace != "" {
		clntrace, err = filepath.Abs(clntrace)
		return err
	}
	var race []string
	if raceEnabled {
		race = []string{"-race"}
	}
	clntrace, err = build("clntrace", race...)
	return err
}

// build builds clntrace under that name.
func build(name string, flags ...string) (path string, err error) {
	path = filepath.Join(programs, name)
	args := append([]string{"build", "-C", "..", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, ".")...)
	if len(flags) == 0 {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as in a release
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building clntrace: %w\n%s", err, out)
	}
	return path, nil
}

// released is clntrace without the race detector, whose own memory is several times
// what clntrace may take.
func released(t *testing.T) string {
	t.Helper()
	if !raceEnabled {
		return clntrace
	}
	path, err := buildReleased()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildReleased = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("CLNTRACE_BINARY"); path != "" {
		return filepath.Abs(path)
	}
	return build("clntrace-released")
})
