package export

import (
	"sync"
	"unsafe"

	"clntrace/collector/correlate"
	"clntrace/collector/detail"
)

// sharedTexts are the statements of the spans in memory. The decoder gives
// equal ones the same string, so each is in memory once; but what a hostile
// sender makes different each time must not count as shared.
type sharedTexts struct {
	mu    sync.Mutex
	users map[*byte]int // by where the text is
}

// hold notes that s is in memory and returns the bytes that this adds.
func (t *sharedTexts) hold(s *correlate.Span) (added int) { return t.change(s, 1) }

// release notes that s has left memory and returns the bytes that this frees.
func (t *sharedTexts) release(s *correlate.Span) (freed int) { return t.change(s, -1) }

// change gives each statement of s that many users more, and returns the bytes
// of those that now have their first or have lost their last.
func (t *sharedTexts) change(s *correlate.Span, by int) (bytes int) {
	for i := range s.Tags {
		tag := &s.Tags[i]
		if tag.Key != detail.TagQuery || tag.Value == "" {
			continue
		}
		if t.count(unsafe.StringData(tag.Value), by) {
			bytes += len(tag.Value)
		}
	}
	return bytes
}

// count tells whether text had no user before or has none now.
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
