package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"clntrace/tests/lightningdtest"
)

// The programs that the tests run, built once.
var clntrace, sender string

func TestMain(m *testing.M) { lightningdtest.Main(m, buildPrograms) }

// buildPrograms builds what the tests run into dir.
func buildPrograms(dir string) (err error) {
	if sender, err = lightningdtest.BuildSender(dir); err != nil {
		return err
	}
	if clntrace = os.Getenv("CLNTRACE_BINARY"); clntrace != "" {
		clntrace, err = filepath.Abs(clntrace)
		return err
	}
	clntrace = filepath.Join(dir, "clntrace")
	build := exec.Command("go", "build", "-C", "..", "-o", clntrace)
	if raceEnabled {
		build.Args = append(build.Args, "-race")
	}
	build.Args = append(build.Args, ".")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building clntrace: %w\n%s", err, out)
	}
	return nil
}
