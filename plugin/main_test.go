package plugin

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// childEnv says what the test binary is to be instead of tests.
const childEnv = "CLNTRACE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "plugin":
		os.Exit(Run("0.0.0-test", []string{"--developer"}))
	case "stdout":
		os.Exit(babble())
	}
	goleak.VerifyTestMain(m,
		// glightning's writer ends only by Stop, after which a late answer panics.
		goleak.IgnoreAnyFunction("github.com/elementsproject/glightning/jrpc2.(*Server).setupWriteQueue"))
}

// babble writes to everything that was stdout, and to what is left of it.
func babble() int {
	stdout, err := claimStdout()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("noise from fmt")
	_, _ = unix.Write(unix.Stdout, []byte("noise from afar\n"))
	_, _ = stdout.WriteString("protocol")
	return 0
}
