package plugin

import (
	"os"
	"runtime/debug"
)

// memoryLimit is where the garbage collector begins to work harder, bytes. We
// promise 128 MiB resident whatever happens. A full queue keeps 53 MiB alive,
// which by itself would let the heap grow to twice that before it is collected:
// 134 MiB resident; with this limit it is 101 at 2 % of the time. Lower limits
// cost more: 80 MiB makes it 91 at 9 %.
const memoryLimit = 96 << 20

// limitMemory sets the limit unless the operator has set another.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
