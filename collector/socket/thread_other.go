//go:build unix && !linux

package socket

func threadID() int { return 0 }

// stepBack does nothing: only Linux has priorities for single threads.
func stepBack(int) error { return nil }
