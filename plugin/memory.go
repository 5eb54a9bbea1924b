package plugin

import (
	"os"
	"runtime/debug"
)

// memoryLimit is the size, in bytes, at which the garbage collector begins to
// work harder. We promise at most 128 MiB resident. When ring and queue are full
// some 50 MiB are live, and without a limit the heap could grow to twice that
// before it is collected. Lower limits cost noticeable time.
const memoryLimit = 96 << 20

// limitMemory sets the limit unless the operator has set another.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
