//go:build unix && !linux

package socket

func threadID() int { return 0 }

// stepBack does nothing: only Linux has a priority for each thread.
func stepBack(int) error { return nil }
