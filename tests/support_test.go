package tests

import (
	"bytes"
	"sync"
	"time"
)

// object is a JSON object.
type object = map[string]any

// now is the present in lightningd's resolution.
func now() time.Time { return time.Now().Truncate(time.Microsecond) }

// lockedBuffer collects a process's output while a test looks at it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
