package zipkin

import "clntrace/collector/text"

// maxInterned bounds what an interner holds, in bytes. A node sends some 400
// different statements, names and methods, 120 kB in all.
const maxInterned = 2 << 20

// interner returns the same string for equal texts, and cleans each only once.
type interner struct {
	texts map[string]string // as received → clean
	bytes int
}

func (in *interner) intern(b []byte) string {
	if s, ok := in.texts[string(b)]; ok {
		return s
	}
	if in.texts == nil || in.bytes+len(b) > maxInterned {
		// Starting over is cheap, and only a hostile sender gets here.
		in.texts, in.bytes = make(map[string]string), 0
	}
	raw := string(b)
	s := raw
	if cleaned := text.Clean(raw); cleaned != raw {
		s = cleaned
	}
	in.texts[raw] = s
	in.bytes += len(raw)
	return s
}
