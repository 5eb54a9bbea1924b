package recorder

import "time"

// SetLimit makes bytes what the recorder takes at most from now on. If it holds more,
// the least interesting traces go.
func (r *Recorder) SetLimit(bytes int64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limit = bytes; r.bytes > r.limit || r.waits > r.limit/waitingShare {
		r.makeRoom(now)
	}
}
