package socket

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// stepBackBy is how many steps of niceness all threads but the reading one go
// back. More would lose less of a flood (see the README), but on a busy machine
// lightningd waits for our answers, and they come from these threads.
const stepBackBy = 10

func threadID() int { return unix.Gettid() }

// stepBack lowers the priority of all threads but one. Threads inherit it, so
// later ones have it too: the runtime never starts one from a thread that is
// locked to its goroutine.
func stepBack(except int) error {
	// Once more for those that a thread started before it was its turn.
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

// lower puts a thread stepBackBy steps behind another, where it is not yet.
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

// niceness undoes what the system call does to tell values from errors.
func niceness(id int) (int, error) {
	const offset = 20
	n, err := unix.Getpriority(unix.PRIO_PROCESS, id)
	return offset - n, err
}
