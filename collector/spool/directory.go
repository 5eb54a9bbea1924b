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
)

const (
	dirMode  = 0o700
	fileMode = 0o600

	lockName      = "lock"
	fileSuffix    = ".spans"
	damagedSuffix = ".damaged" // behind fileSuffix
	tempSuffix    = ".tmp"     // behind fileSuffix
)

// ours matches the names that this package gives. The number is the place in
// the queue, and says nothing of what is in the file.
var ours = regexp.MustCompile(`^([0-9a-f]{16})\.spans(\.damaged|\.tmp)?$`)

func fileName(number uint64) string { return fmt.Sprintf("%016x%s", number, fileSuffix) }

// errInUse: the lock is another's.
var errInUse = errors.New("another clntrace uses it; give each its own with clntrace-spool-dir")

// directory is the spool's directory, locked. All its methods take names in
// it: os.Root sees to it that nothing outside is touched.
type directory struct {
	root *os.Root
	lock *os.File
}

// openDirectory makes the directory at path if need be, and locks it. It never
// waits for the lock.
func openDirectory(path string) (*directory, error) {
	if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	root, err := openOwn(path)
	if err != nil {
		return nil, err
	}
	d := &directory{root: root}
	if err := d.takeLock(); err != nil {
		_ = root.Close()
		return nil, err
	}
	return d, nil
}

// openOwn opens the directory at path unless somebody else could have put it
// there: a link would have us write in a place of another's choice.
func openOwn(path string) (*os.Root, error) {
	entry, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if entry.Mode()&fs.ModeSymlink != 0 {
		return nil, errors.New("it is a symbolic link, which is not followed; set clntrace-spool-dir to where it points")
	}
	if !entry.IsDir() {
		return nil, errors.New("it is not a directory; remove it or set clntrace-spool-dir")
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	// What was opened is asked, not the path again.
	info, err := root.Stat(".")
	if err == nil {
		err = checkOwner(info)
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

func checkOwner(info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("it belongs to user %d and clntrace runs as %d; change its owner or set clntrace-spool-dir", stat.Uid, os.Geteuid())
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others may write in it (mode %#o); run 'chmod 700' on it or set clntrace-spool-dir", info.Mode().Perm())
	}
	return nil
}

// takeLock keeps a second clntrace out for as long as this process lives.
func (d *directory) takeLock() error {
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
			return errInUse
		}
		return os.NewSyscallError("flock", err)
	}
	d.lock = lock
	return nil
}

// close gives the directory to others.
func (d *directory) close() {
	_ = d.lock.Close() // nothing was written
	_ = d.root.Close()
}

// gone tells that path is not this directory any more.
func (d *directory) gone(path string) bool {
	entry, err := os.Lstat(path)
	if err != nil {
		return true
	}
	info, err := d.root.Stat(".")
	return err != nil || !os.SameFile(entry, info)
}

// listing is what of ours lies in a directory, each in the queue's order.
type listing struct {
	files, damaged []*file
	next           uint64 // number that no file has
}

// list reads the directory. Remains of a repair that was cut short go.
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
			_ = d.root.Remove(entry.Name()) // the original is there, and is repaired again
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

// append writes b behind the first size bytes of the file, or into a new file
// if size is 0. After an error the file is as it was before.
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
		// If this fails as well, the reader finds a cut record.
		_ = f.Truncate(size)
	}
	err = errors.Join(err, f.Close())
	if err != nil && size == 0 {
		_ = d.root.Remove(name)
	}
	return err
}

// hasSize tells whether the file still has the size that we left it with.
func (d *directory) hasSize(name string, size int64) bool {
	info, err := d.root.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// read returns what is in the file, which must be a regular one: to open
// anything else may wait for ever.
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

// replace puts b into the file's place and keeps the file under its damaged
// name. A kill at any instant leaves the old file or the new one.
func (d *directory) replace(name string, b []byte) error {
	temp := name + tempSuffix
	err := d.root.WriteFile(temp, b, fileMode)
	if err == nil {
		if err = d.root.Link(name, name+damagedSuffix); errors.Is(err, fs.ErrExist) {
			err = nil // by an earlier run that was killed here
		}
	}
	if err == nil {
		err = d.root.Rename(temp, name)
	}
	if err != nil {
		_ = d.root.Remove(temp)
	}
	return err
}

// setAside gives the file its damaged name.
func (d *directory) setAside(name string) error { return d.root.Rename(name, name+damagedSuffix) }

// remove removes the file; that it is gone already is as good.
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

// explain says which directory it is that cannot be used, why, and what to do.
// Of the errors of package os only the cause is kept: the path is said once.
func explain(dir string, err error) error {
	cause, user := reason(err), os.Geteuid()
	pathErr, ok := errors.AsType[*fs.PathError](err)
	switch {
	case !ok: // our own words
	case errors.Is(err, fs.ErrNotExist) && pathErr.Op == "mkdir":
		cause = fmt.Errorf("there is no directory %s to make it in (%w); make that or set clntrace-spool-dir", filepath.Dir(dir), cause)
	case errors.Is(err, unix.ENOTDIR):
		cause = fmt.Errorf("what should hold it is a file (%w); remove that or set clntrace-spool-dir", cause)
	case errors.Is(err, fs.ErrPermission) && pathErr.Op == "mkdir":
		cause = fmt.Errorf("user %d may not make it in %s (%w); give it the right or set clntrace-spool-dir", user, filepath.Dir(dir), cause)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		cause = fmt.Errorf("user %d may not write in it (%w); give it the right or set clntrace-spool-dir", user, cause)
	default:
		cause = fmt.Errorf("%s: %w; see to the disk or set clntrace-spool-dir", strings.TrimSuffix(pathErr.Op, "at"), cause)
	}
	return fmt.Errorf("the spool directory %s cannot be used: %w", dir, cause)
}

// reason is err without what it was about.
func reason(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

// absolute is the directory as it will be even if the process's own changes.
func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}
