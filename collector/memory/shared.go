package memory

import (
	"sync"
	"unsafe"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
)

// sharedTexts counts the users of each statement in memory. The decoder gives equal
// statements the same string, so each is in memory, and must be reserved, only once.
// Statements that a hostile sender makes all different are not shared.
type sharedTexts struct {
	mu    sync.Mutex
	users map[*byte]int // by the address of the text
}

// hold records that s is in memory, and returns how many bytes that adds.
func (t *sharedTexts) hold(s *correlate.Span) (added int) { return t.change(s, 1) }

// release records that s has left memory, and returns how many bytes that frees.
func (t *sharedTexts) release(s *correlate.Span) (freed int) { return t.change(s, -1) }

// change adds by to the users of each statement of s, and returns the bytes of those
// that have got their first user or lost their last.
func (t *sharedTexts) change(s *correlate.Span, by int) (bytes int) {
	for i := range s.Tags {
		tag := &s.Tags[i]
		if tag.Key != cln.TagQuery || tag.Value == "" {
			continue
		}
		if t.count(unsafe.StringData(tag.Value), by) {
			bytes += len(tag.Value)
		}
	}
	return bytes
}

// count adds by to the users of text, and reports whether it had none before or has
// none now.
func (t *sharedTexts) count(text *byte, by int) (edge bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users == nil {
		t.users = make(map[*byte]int)
	}
	before := t.users[text]
	if before+by == 0 {
		delete(t.users, text)
		return true
	}
	t.users[text] = before + by
	return before == 0
}
