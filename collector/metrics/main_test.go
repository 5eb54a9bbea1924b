package metrics

import (
	"testing"

	"go.uber.org/goleak"
)

// A connection that was closed waits for half a second until its last packet has gone.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}
