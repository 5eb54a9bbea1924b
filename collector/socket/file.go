package socket

import (
	"errors"
	"io/fs"
	"os"
)

// errNotOurs means that the socket's file has been replaced.
var errNotOurs = errors.New("the file is no longer ours")

// inPlace reports whether path is still the file f.
func (f file) inPlace(path string) bool {
	now, err := identify(path)
	if err != nil {
		// If we may not look, assume that it is: the socket itself still works.
		return !errors.Is(err, fs.ErrNotExist)
	}
	return now == f
}

// remove removes path if it is still the file f.
func (f file) remove(path string) {
	if now, err := identify(path); err == nil && now == f {
		_ = os.Remove(path) // if that fails a stale socket remains, which the next start replaces
	}
}
