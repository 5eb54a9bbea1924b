package stats

import (
	"flag"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is when the tests take place.
var start = time.Date(2026, time.November, 22, 4, 29, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return start.Add(d) }
