package process

import (
	"os"
	"path/filepath"
	"strconv"
)

// maxAncestors bounds the ancestors that are looked at: a wrapper script, or an
// interpreter, stands between a node and its plugin.
const maxAncestors = 4

// Origin is what tells the processes that we see from those of other machines, other
// boots and other pid namespaces, where pids and start times may be the same: the
// machine's id, that of its boot, and that of our pid namespace. What cannot be read is
// left out.
func Origin() []byte { return origin("/etc/machine-id", "/proc") }

func origin(machineID, proc string) (id []byte) {
	for _, file := range []string{machineID, filepath.Join(proc, "sys/kernel/random/boot_id")} {
		text, _ := os.ReadFile(file)
		id = append(append(id, text...), 0)
	}
	namespace, _ := os.Readlink(filepath.Join(proc, "self/ns/pid"))
	return append(id, namespace...)
}

// Ancestor returns the nearest one of a process and its ancestors that runs the program
// of that name; 0: none of them does, or it cannot be told.
func (r *Resolver) Ancestor(pid int32, name string) int32 {
	for range maxAncestors {
		_, parent, err := r.stat(pid)
		if err != nil {
			break
		}
		if runs, _ := r.executable(pid); runs == name {
			return pid
		}
		pid = parent
	}
	return 0
}

// Parent returns the pid and the start time of the process that started the one with
// that pid and start time; zero: unknown.
func (r *Resolver) Parent(pid int32, startTime uint64) (parent int32, parentStart uint64) {
	start, by, err := r.stat(pid)
	if err != nil || start != startTime {
		return 0, 0
	}
	if parentStart, err = r.StartTime(by); err != nil {
		return 0, 0
	}
	return by, parentStart
}

// Child returns the process of that name that parent has started, the latest one if
// there are several, or nil. It looks at every process of the system.
func (r *Resolver) Child(parent int32, name string) *Identity {
	dirs, _ := os.ReadDir(r.proc)
	var found *Identity
	for _, dir := range dirs {
		pid, err := strconv.ParseInt(dir.Name(), 10, 32)
		if err != nil {
			continue
		}
		start, by, err := r.stat(int32(pid))
		if err != nil || by != parent {
			continue
		}
		if runs, _ := r.executable(int32(pid)); runs != name {
			continue
		}
		if found == nil || start > found.StartTime {
			found, _ = r.identify(int32(pid), start, by, name)
		}
	}
	return found
}
