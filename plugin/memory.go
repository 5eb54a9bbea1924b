package plugin

import (
	"os"
	"runtime/debug"
)

// memoryLimit is where the garbage collector begins to work harder, bytes. We
// promise 128 MiB resident whatever happens. Ring and queue keep some
// 50 MiB alive when they are full, which by itself would let the heap grow to
// twice that before it is collected. Lower limits cost noticeable time.
const memoryLimit = 96 << 20

// limitMemory sets the limit unless the operator has set another.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
