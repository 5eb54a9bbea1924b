package lightningdtest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
)

// BuildSender builds the program that Senders run, into dir.
func BuildSender(dir string) (string, error) { return build("sender", dir) }

// BuildFakechain builds the bitcoin backend for a real lightningd, into dir.
func BuildFakechain(dir string) (string, error) { return build("fakechain", dir) }

func build(program, dir string) (string, error) {
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(dir, program)
	build := exec.Command("go", "build", "-o", path, "./"+program)
	build.Dir = filepath.Dir(here)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", program, err, out)
	}
	return path, nil
}
