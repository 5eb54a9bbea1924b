// Package process finds out which program a process id belongs to.
//
// The kernel supplies the sender's pid with each datagram, but the sender has
// often exited by the time the datagram is decoded. So what /proc said is cached,
// together with the process's start time, which tells a reused pid from the
// process that had it before.
//
// The package takes the pid of a datagram and gives an Identity. It caches the
// maxIdentities that were used last, and looks at /proc again after recheck.
package process

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"clntrace/collector/text"
)

// Identity is one process. Two spans come from the same process exactly when
// their *Identity is the same.
type Identity struct {
	PID  int32  // 0: unknown
	Name string // base name of the executable, or the service name of the datagram
	// Known says that Name was read from /proc.
	Known bool
	// StartTime is in clock ticks since boot, as in /proc/PID/stat; 0: unknown.
	StartTime uint64
	// ParentPID and ParentStartTime are those of its parent process; 0: unknown.
	ParentPID       int32
	ParentStartTime uint64
}

const (
	// maxIdentities bounds the cache: a node runs some 30 processes at once.
	maxIdentities = 1024
	// recheck is how long a pid is taken for the same process without a look at
	// /proc. The kernel hands out pids in turn, so even where there are only 32,768
	// of them none is reused so soon.
	recheck = 250 * time.Millisecond
)

type entry struct {
	identity *Identity
	checked  time.Time
	// failed says that /proc could not be read for want of something that may be
	// there the next time, such as file descriptors.
	failed bool
}

// Resolver resolves pids and caches the results. It is not safe for concurrent use.
type Resolver struct {
	proc string // where procfs is mounted
	// These are the system's, but in tests. What readFile returns is valid until it is
	// called again.
	readFile func(string) ([]byte, error)
	readlink func(string) (string, error)
	entries  *simplelru.LRU[key, *entry]
}

// key is a pid or, where that is unknown, the datagram's service name.
type key struct {
	pid  int32
	name string
}

// NewResolver returns a Resolver that reads the procfs at dir.
func NewResolver(dir string) *Resolver {
	entries, err := simplelru.NewLRU[key, *entry](maxIdentities, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Resolver{proc: dir, entries: entries, readFile: newReader(), readlink: os.Readlink}
}

// Resolve returns the process that has pid at the time now. Its name is fallback
// if /proc does not know it: it is in another pid namespace, or has exited and was
// never seen before.
func (r *Resolver) Resolve(pid int32, fallback string, now time.Time) *Identity {
	k := key{pid: pid}
	if pid <= 0 {
		k = key{name: fallback}
	}
	e, ok := r.entries.Get(k)
	if ok && (pid <= 0 || now.Sub(e.checked) < recheck) {
		return e.identity
	}
	start, parent, err := r.stat(pid)
	switch {
	case ok && (err != nil || start == e.identity.StartTime && !e.failed):
		e.checked = now
	default:
		id, nameErr := r.identify(pid, start, parent, fallback)
		e = &entry{id, now, passing(err) || passing(nameErr)}
		r.entries.Add(k, e)
	}
	return e.identity
}

// passing reports whether an error may be gone the next time.
func passing(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// identify looks a process up. The error, if any, is that of finding out its name.
func (r *Resolver) identify(pid int32, start uint64, parent int32, fallback string) (*Identity, error) {
	id := &Identity{PID: max(pid, 0), Name: fallback, StartTime: start}
	if start == 0 {
		return id, nil
	}
	name, err := r.executable(pid)
	if name != "" {
		id.Name, id.Known = text.Clean(name), true // a file's name can be any bytes
	}
	if parentStart, err := r.StartTime(parent); err == nil {
		id.ParentPID, id.ParentStartTime = parent, parentStart
	}
	return id, err
}

var errStat = errors.New("unexpected form of /proc/PID/stat")

// StartTime reads when pid was started, in clock ticks since boot.
func (r *Resolver) StartTime(pid int32) (uint64, error) {
	start, _, err := r.stat(pid)
	return start, err
}

// stat reads when pid was started, in clock ticks since boot, and by whom.
func (r *Resolver) stat(pid int32) (start uint64, parent int32, err error) {
	if pid <= 0 {
		return 0, 0, os.ErrNotExist
	}
	stat, err := r.readFile(r.path(pid, "stat"))
	if err != nil {
		return 0, 0, err
	}
	// Field 2 is the program's name in parentheses and may hold anything, so
	// count from the last parenthesis: what follows begins with field 3.
	const parentField, startField = 4, 22
	number := 3
	for field := range bytes.FieldsSeq(stat[bytes.LastIndexByte(stat, ')')+1:]) {
		switch number {
		case parentField:
			by, err := strconv.ParseInt(string(field), 10, 32)
			if err != nil {
				return 0, 0, errStat
			}
			parent = int32(by)
		case startField:
			if start, err = strconv.ParseUint(string(field), 10, 64); err != nil {
				return 0, 0, errStat
			}
			return start, parent, nil
		}
		number++
	}
	return 0, 0, errStat
}

// executable returns the base name of the program that pid runs, or "" and why that
// cannot be told.
func (r *Resolver) executable(pid int32) (string, error) {
	exe, err := r.readlink(r.path(pid, "exe"))
	if err == nil {
		// The kernel marks a file that an upgrade has replaced.
		return filepath.Base(strings.TrimSuffix(exe, " (deleted)")), nil
	}
	if passing(err) {
		return "", err
	}
	// exe needs the right to trace the process; comm and cmdline do not, but
	// comm is cut at 15 bytes and cmdline can be empty or anything.
	comm, err := r.readFile(r.path(pid, "comm"))
	if err != nil {
		return "", err
	}
	name := strings.TrimSuffix(string(comm), "\n")
	const commLen = 15
	if len(name) == commLen {
		cmdline, _ := r.readFile(r.path(pid, "cmdline"))
		arg0, _, _ := bytes.Cut(cmdline, []byte{0})
		if base := filepath.Base(string(arg0)); strings.HasPrefix(base, name) {
			return base, nil
		}
	}
	return name, nil
}

func (r *Resolver) path(pid int32, file string) string {
	return r.proc + "/" + strconv.Itoa(int(pid)) + "/" + file
}
