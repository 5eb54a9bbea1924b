package spool

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// onSmallDisk calls f with a directory on a file system of that size, which
// only f's thread can see.
func onSmallDisk(t *testing.T, size string, f func(dir string)) {
	t.Helper()
	done := make(chan string)
	go func() {
		var skip string
		defer func() { done <- skip }()
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			skip = "a mount namespace of our own: " + err.Error()
			return
		}
		dir := t.TempDir()
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			skip = "keeping mounts to ourselves: " + err.Error()
			return
		}
		if err := unix.Mount("clntrace", dir, "tmpfs", 0, "size="+size); err != nil {
			skip = "mounting a file system: " + err.Error()
			return
		}
		f(dir)
	}()
	if skip := <-done; skip != "" {
		t.Skip(skip)
	}
}

func TestFullDisk(t *testing.T) {
	onSmallDisk(t, "256k", func(dir string) {
		cfg := roomy(filepath.Join(dir, "spool"))
		s := newSpool(t, cfg)
		body := strings.Repeat("x", 10_000)
		stored := 0
		var err error
		for ; err == nil && stored < 100; stored++ {
			err = s.Put(1, []byte(body))
		}
		stored--
		if err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), "free some space") {
			t.Errorf("after %d batches: %v", stored, err)
			return
		}
		s.want(Change{Stored: int64(stored)})
		if err := s.Put(1, []byte(body)); err == nil || s.logged("no space left") != 1 {
			t.Errorf("again: %v, log: %s", err, s.log.String())
		}
		b := s.Next(0)
		if got := strings.Count(string(b.Body), body); got != stored {
			t.Errorf("%d batches are whole of %d", got, stored)
		}
		s.Done(b)
		if s.Status().Problem != nil {
			t.Errorf("there is room again, and the status says %v", s.Status().Problem)
		}
		s.put("y")
		if got := s.drain(); !slices.Equal(got, []string{"y"}) {
			t.Errorf("got %q", got)
		}
		s.Close()
		_ = os.RemoveAll(cfg.Dir)
	})
}

func TestReadOnlyDisk(t *testing.T) {
	onSmallDisk(t, "256k", func(dir string) {
		remount := func(flags uintptr) {
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
				t.Errorf("remounting: %v", err)
			}
		}
		cfg := roomy(filepath.Join(dir, "spool"))
		first := opened(t, cfg)
		first.put("a")
		first.Close()
		remount(unix.MS_RDONLY)
		second := newSpool(t, cfg)
		if err := second.Put(1, []byte("b")); err == nil || !strings.Contains(err.Error(), "read-only") || !strings.Contains(err.Error(), cfg.Dir) {
			t.Errorf("got %v", err)
		}
		remount(0)
		second.put("b")
		for second.LookInto() {
		}
		second.want(Change{Stored: 1, Found: 1})
		if got := second.drain(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("got %q", got)
		}
		second.Close()
	})
}
