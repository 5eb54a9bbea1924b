package correlate

import "unicode/utf8"

// maxText bounds each text that is kept after its span has left: methods and
// first components have 60 bytes at most, a datagram has room for 2,000.
const maxText = 128 // bytes

// clip returns the beginning of s. It is a part of s still, and keeps all of s
// in memory.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
