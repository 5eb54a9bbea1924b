package lightningdtest

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// Main is the body of a TestMain. It has build put programs into a new directory,
// which other users may enter too, runs the tests, and fails if they leave
// goroutines behind.
func Main(m *testing.M, build func(dir string) error) {
	runMoreAtOnce()
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

// runMoreAtOnce has up to three times as many tests run at once as there are
// processors, unless -parallel says how many: they wait far more than they compute.
func runMoreAtOnce() {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0))) // a flag that exists, and a number
	}
}
