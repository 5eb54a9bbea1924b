package socket

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// stepBackBy is by how much the niceness of all threads but the reading one is
// raised. More would lose less of a flood (see tests/bench/README.md), but lightningd waits for
// answers from these threads, and would wait longer on a busy machine.
const stepBackBy = 10

// errNotAllowed means that a seccomp filter would end the process.
var errNotAllowed = errors.New("a seccomp filter forbids setpriority, of systemd's group @resources")

func threadID() int { return unix.Gettid() }

// stepBack lowers the priority of all threads but one. Threads inherit it, so
// later ones have it too: the runtime never starts one from a thread that is
// locked to its goroutine.
func stepBack(except int) error {
	if !priority.Allowed() {
		return errNotAllowed
	}
	// Twice, for threads that were started by one whose turn had not come yet.
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("listing our threads: %w", err)
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil || id == except {
				continue
			}
			if err := lower(id, except); err != nil {
				return fmt.Errorf("lowering the priority of thread %d: %w", id, err)
			}
		}
	}
	return nil
}

// lower makes a thread nicer than another by stepBackBy, unless it is already.
func lower(id, behind int) error {
	first, err := niceness(behind)
	if err != nil {
		return err
	}
	err = unix.Setpriority(unix.PRIO_PROCESS, id, min(first+stepBackBy, 19))
	if errors.Is(err, unix.ESRCH) { // it has ended
		return nil
	}
	return err
}

// niceness returns that of a thread. The system call itself returns 20 less it, to
// tell values from errors.
func niceness(id int) (int, error) {
	const offset = 20
	n, err := unix.Getpriority(unix.PRIO_PROCESS, id)
	return offset - n, err
}
