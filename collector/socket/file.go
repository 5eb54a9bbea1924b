package socket

import (
	"errors"
	"io/fs"
	"os"
)

// errNotOurs tells that somebody has replaced the socket's file.
var errNotOurs = errors.New("the file is no longer ours")

// inPlace tells whether path is still the file f.
func (f file) inPlace(path string) bool {
	now, err := identify(path)
	if err != nil {
		// Where we may not look, assume the best: the socket still works.
		return !errors.Is(err, fs.ErrNotExist)
	}
	return now == f
}

// remove removes path if it is still the file f.
func (f file) remove(path string) {
	if now, err := identify(path); err == nil && now == f {
		_ = os.Remove(path) // then it stays behind, stale, and the next start replaces it
	}
}
