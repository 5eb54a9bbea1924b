//go:build linux

package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"clntrace/tests/lightningdtest"
)

// The programs that the tests run, built once. clntrace is static, as in a
// release: it must run in a root directory that holds nothing else.
var clntrace, sender, collector string

func TestMain(m *testing.M) { lightningdtest.Main(m, buildPrograms) }

// buildPrograms builds what the tests run into dir.
func buildPrograms(dir string) (err error) {
	if sender, err = lightningdtest.BuildSender(dir); err != nil {
		return err
	}
	clntrace, collector = filepath.Join(dir, "clntrace"), filepath.Join(dir, "otelcol")
	for path, source := range map[string][]string{clntrace: {"-C", "../..", "."}, collector: {"-C", "..", "./otelcol"}} {
		build := exec.Command("go", "build", source[0], source[1], "-o", path, source[2])
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", filepath.Base(path), err, out)
		}
	}
	return nil
}
