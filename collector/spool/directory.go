package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"clntrace/collector/probe"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

// The options that texts name.
const (
	dirOption  = "spool-dir"
	sizeOption = "spool-size"
)

const (
	dirMode  = 0o700
	fileMode = 0o600

	lockName      = "lock"
	fileSuffix    = ".spans"
	damagedSuffix = ".damaged" // behind fileSuffix
	tempSuffix    = ".tmp"     // behind fileSuffix
)

// ours matches the names that this package gives to files. The number is the place
// in the queue.
var ours = regexp.MustCompile(`^([0-9a-f]{16})\.spans(\.damaged|\.tmp)?$`)

func fileName(number uint64) string { return fmt.Sprintf("%016x%s", number, fileSuffix) }

// errInUse means that another process has the lock.
var errInUse = errors.New("another clntrace uses it")

// directory is the spool's directory, locked. Its methods take names in it; os.Root
// makes sure that nothing outside is touched.
type directory struct {
	root *os.Root
	lock *os.File
}

// openDirectory makes the directory at path, if there is none, and locks it. It
// does not wait for the lock.
func openDirectory(path string, v voice.Voice) (*directory, error) {
	d, err := enter(path, v)
	if err != nil {
		return nil, err
	}
	if err := d.takeLock(v); err != nil {
		_ = d.root.Close()
		return nil, err
	}
	return d, nil
}

// enter opens the directory at path, which it makes if there is none, without locking it.
func enter(path string, v voice.Voice) (*directory, error) {
	if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	root, err := openOwn(path, v)
	if err != nil {
		return nil, err
	}
	return &directory{root: root}, nil
}

// openOwn opens the directory at path, unless another user could have put it there:
// a link, for one, could make us write to a place of that user's choice.
func openOwn(path string, v voice.Voice) (*os.Root, error) {
	entry, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if entry.Mode()&fs.ModeSymlink != 0 {
		return nil, errors.New("it is a symbolic link, which is not followed; set " + v.Option(dirOption) + " to where it points")
	}
	if !entry.IsDir() {
		return nil, errors.New("it is not a directory; set " + v.Option(dirOption) + " to another path")
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	// Check what was opened, not the path, which may have changed.
	info, err := root.Stat(".")
	if err == nil {
		err = checkOwner(info, v)
	}
	if err == nil && !os.SameFile(entry, info) {
		err = errors.New("it was replaced while it was opened")
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return root, nil
}

func checkOwner(info fs.FileInfo, v voice.Voice) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("it belongs to user %d and clntrace runs as %d; change its owner or set %s", stat.Uid, os.Geteuid(), v.Option(dirOption))
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others may write in it (mode %#o); run 'chmod 700' on it or set %s", info.Mode().Perm(), v.Option(dirOption))
	}
	return nil
}

// takeLock keeps any other clntrace out, until close or the end of this process.
func (d *directory) takeLock(v voice.Voice) error {
	if !flock.Allowed() {
		return unlockable(unix.EPERM, v)
	}
	lock, err := d.root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	for {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%w; give each its own with %s", errInUse, v.Option(dirOption))
		}
		return unlockable(err, v)
	}
	d.lock = lock
	return nil
}

// flock is not to be had on some network file systems, and in some seccomp filters.
var flock = probe.New("flock", func() { _ = unix.Flock(-1, unix.LOCK_UN) })

func unlockable(err error, v voice.Voice) error {
	return fmt.Errorf("it cannot be locked (flock: %w), as on some network file systems or under a seccomp filter; set %s to a local disk or allow flock", err, v.Option(dirOption))
}

// close releases the directory for others.
func (d *directory) close() {
	_ = d.lock.Close() // nothing was written
	_ = d.root.Close()
}

// gone reports whether path no longer is this directory.
func (d *directory) gone(path string) bool {
	entry, err := os.Lstat(path)
	if err != nil {
		return true
	}
	info, err := d.root.Stat(".")
	return err != nil || !os.SameFile(entry, info)
}

// listing is our files in a directory, in the order of the queue.
type listing struct {
	files, damaged []*file
	next           uint64 // greater than the number of any file
}

// list reads the directory, and removes what an interrupted repair has left.
func (d *directory) list() (listing, error) {
	all, err := d.root.Open(".")
	if err != nil {
		return listing{}, err
	}
	defer func() { _ = all.Close() }()
	entries, err := all.ReadDir(-1)
	if err != nil {
		return listing{}, err
	}
	l := listing{next: 1}
	for _, entry := range entries {
		match := ours.FindStringSubmatch(entry.Name())
		if match == nil || !entry.Type().IsRegular() {
			continue
		}
		number, _ := strconv.ParseUint(match[1], 16, 64) // 16 digits fit
		l.next = max(l.next, number+1)
		info, err := entry.Info()
		if err != nil {
			continue // gone since
		}
		f := &file{number: number, size: info.Size(), sealed: true}
		switch match[2] {
		case tempSuffix:
			_ = d.root.Remove(entry.Name()) // the original is still there, and will be repaired
		case damagedSuffix:
			l.damaged = append(l.damaged, f)
		default:
			l.files = append(l.files, f)
		}
	}
	slices.SortFunc(l.files, byNumber)
	slices.SortFunc(l.damaged, byNumber)
	return l, nil
}

func byNumber(a, b *file) int { return cmp.Compare(a.number, b.number) }

// append appends b to the file, which has size bytes, or makes the file if size is
// 0. If it fails it restores the file as it was.
func (d *directory) append(name string, size int64, b []byte) error {
	flags := os.O_WRONLY | os.O_APPEND
	if size == 0 {
		flags |= os.O_CREATE | os.O_EXCL
	}
	f, err := d.root.OpenFile(name, flags, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err != nil {
		// If this fails too, the file ends with a record that is cut.
		_ = f.Truncate(size)
	}
	err = errors.Join(err, f.Close())
	if err != nil && size == 0 {
		_ = d.root.Remove(name)
	}
	return err
}

// hasSize reports whether the file still has the size that we know of.
func (d *directory) hasSize(name string, size int64) bool {
	info, err := d.root.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// read returns the contents of the file, which must be a regular one: opening
// anything else may block forever.
func (d *directory) read(name string) ([]byte, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileBytes {
		return nil, fmt.Errorf("reading %s: not a file of ours", name)
	}
	return d.root.ReadFile(name)
}

// replace replaces the contents of the file by b, and keeps the old file under its
// damaged name. A kill at any instant leaves either the old contents or the new.
func (d *directory) replace(name string, b []byte) error {
	return d.renew(name, b, func() error {
		if err := d.root.Link(name, name+damagedSuffix); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil // an earlier run was killed after this step
	})
}

// overwrite replaces the contents of the file.
func (d *directory) overwrite(name string, b []byte) error {
	return d.renew(name, b, func() error { return nil })
}

// renew puts a file with those contents in the place of the one of that name, after
// before. It does all or nothing.
func (d *directory) renew(name string, b []byte, before func() error) error {
	temp := name + tempSuffix
	err := d.root.WriteFile(temp, b, fileMode)
	if err == nil {
		err = before()
	}
	if err == nil {
		err = d.root.Rename(temp, name)
	}
	if err != nil {
		_ = d.root.Remove(temp)
	}
	return err
}

// setAside renames the file to its damaged name.
func (d *directory) setAside(name string) error { return d.root.Rename(name, name+damagedSuffix) }

// remove removes the file. It is no error if there is none.
func (d *directory) remove(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sync writes the files and the directory to the disk.
func (d *directory) sync(names []string) error {
	var errs []error
	for _, name := range append(names, ".") {
		f, err := d.root.Open(name)
		if err != nil {
			continue // delivered and removed
		}
		errs = append(errs, f.Sync(), f.Close())
	}
	return errors.Join(errs...)
}

// explain says that the directory cannot be used, why, and what to do. Of errors of
// package os it keeps only the cause, so that the path is named once.
func explain(dir string, err error, v voice.Voice) error {
	option := v.Option(dirOption)
	cause, user := text.Cause(err), os.Geteuid()
	pathErr, ok := errors.AsType[*fs.PathError](err)
	switch {
	case !ok: // we have worded it
	case errors.Is(err, fs.ErrNotExist) && pathErr.Op == "mkdir":
		cause = fmt.Errorf("there is no directory %s to make it in (%w); make that or set %s", filepath.Dir(dir), cause, option)
	case errors.Is(err, unix.ENOTDIR):
		cause = fmt.Errorf("what should hold it is a file (%w); set %s to another path", cause, option)
	case errors.Is(err, fs.ErrPermission) && pathErr.Op == "mkdir":
		cause = fmt.Errorf("user %d may not make it in %s (%w); give it the right or set %s", user, filepath.Dir(dir), cause, option)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		cause = fmt.Errorf("user %d may not write in it (%w); give it the right or set %s", user, cause, option)
	default:
		cause = fmt.Errorf("%s: %w; see to the disk or set %s", strings.TrimSuffix(pathErr.Op, "at"), cause, option)
	}
	return fmt.Errorf("the spool directory %s cannot be used: %w", dir, cause)
}

// absolute makes dir independent of the working directory.
func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}
