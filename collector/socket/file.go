package socket

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// errNotOurs means that the socket's file has been replaced.
var errNotOurs = errors.New("the file is no longer ours")

// file identifies a socket file, to tell it from a later one of the same name. Inode
// numbers are reused at once, so a time is part of it: that of the last change of the
// contents, which a socket never has after it was made. (The time of its creation
// takes statx, which old kernels and old seccomp filters do not know.)
type file struct {
	device, inode uint64
	made          int64 // ns since 1970
}

func identify(path string) (file, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return file{}, err
	}
	return fileOf(info)
}

func fileOf(info fs.FileInfo) (file, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return file{}, errNotOurs
	}
	return file{uint64(st.Dev), uint64(st.Ino), info.ModTime().UnixNano()}, nil //nolint:gosec,unconvert // their types differ between systems
}

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
