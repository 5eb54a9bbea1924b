package process

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOriginDiffersWithEachOfItsParts(t *testing.T) {
	write := func(machine, boot, namespace string) []byte {
		dir := t.TempDir()
		for name, text := range map[string]string{"machine-id": machine, "sys/kernel/random/boot_id": boot} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Join(dir, "self/ns"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(namespace, filepath.Join(dir, "self/ns/pid")); err != nil {
			t.Fatal(err)
		}
		return origin(filepath.Join(dir, "machine-id"), dir)
	}
	is := write("m1", "b1", "pid:[1]")
	if !bytes.Equal(is, write("m1", "b1", "pid:[1]")) {
		t.Error("the same place has another origin")
	}
	for _, other := range [][]byte{write("m2", "b1", "pid:[1]"), write("m1", "b2", "pid:[1]"), write("m1", "b1", "pid:[2]")} {
		if bytes.Equal(is, other) {
			t.Errorf("two places have the origin %q", is)
		}
	}
	if len(Origin()) == 0 {
		t.Error("this machine has no origin")
	}
}

func TestChild(t *testing.T) {
	proc := newFakeProc(t)
	proc.run(1, 10, "/usr/bin/lightningd", "lightningd", "")
	proc.run(7, 100, "/usr/libexec/cln-xpay", "cln-xpay", "")
	proc.run(8, 200, "/usr/libexec/cln-xpay", "cln-xpay", "") // after a restart
	proc.run(9, 300, "/usr/libexec/pay", "pay", "")
	r := NewResolver(proc.dir)
	if got := r.Child(1, "cln-xpay"); got == nil || got.PID != 8 || got.StartTime != 200 || got.ParentPID != 1 {
		t.Errorf("got %+v, want the later one", got)
	}
	if got := r.Child(2, "cln-xpay"); got != nil {
		t.Errorf("got %+v for the child of another process", got)
	}
	if s := NewResolver(proc.dir).Resolve(8, "x", time.Now()); s.Name != "cln-xpay" {
		t.Errorf("Resolve names it %s", s.Name)
	}
}

func TestAncestors(t *testing.T) {
	proc := newFakeProc(t)
	proc.run(1, 1, "/sbin/init", "init", "")
	proc.run(5, 10, "/usr/bin/lightningd", "lightningd", "")
	proc.runBy(5, 7, 20, "/bin/dash", "sh", "")
	proc.runBy(7, 9, 30, "/usr/bin/clntrace", "clntrace", "")
	r := NewResolver(proc.dir)
	for pid, want := range map[int32]int32{5: 5, 7: 5, 9: 5, 1: 0, 99: 0, 0: 0} {
		if got := r.Ancestor(pid, "lightningd"); got != want {
			t.Errorf("process %d: got %d, want %d", pid, got, want)
		}
	}
	if parent, start := r.Parent(7, 20); parent != 5 || start != 10 {
		t.Errorf("got %d, started at %d", parent, start)
	}
	if parent, start := r.Parent(7, 21); parent != 0 || start != 0 {
		t.Errorf("got %d, started at %d, for the parent of a process that has ended", parent, start)
	}
}
