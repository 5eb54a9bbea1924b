package correlate

import "clntrace/collector/text"

// maxText bounds each text that is kept after its span has gone. Real methods and
// first components have at most 60 bytes, while a datagram has room for 2,000.
const maxText = 128 // bytes

// clip returns the part of s that is kept.
func clip(s string) string { return text.Clip(s, maxText) }
