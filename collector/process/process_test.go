package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// fakeProc is a procfs of files.
type fakeProc struct {
	t   *testing.T
	dir string
}

func newFakeProc(t *testing.T) fakeProc { return fakeProc{t, t.TempDir()} }

func (f fakeProc) run(pid int, start uint64, exe, comm, cmdline string) {
	f.t.Helper()
	f.runBy(1, pid, start, exe, comm, cmdline)
}

func (f fakeProc) runBy(parent, pid int, start uint64, exe, comm, cmdline string) {
	f.t.Helper()
	f.exit(pid)
	dir := filepath.Join(f.dir, fmt.Sprint(pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		f.t.Fatal(err)
	}
	stat := fmt.Sprintf("%d (%s) S %d 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 %d 1000 10", pid, comm, parent, start)
	for name, text := range map[string]string{"stat": stat, "comm": comm + "\n", "cmdline": cmdline} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			f.t.Fatal(err)
		}
	}
	if exe != "" {
		if err := os.Symlink(exe, filepath.Join(dir, "exe")); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f fakeProc) exit(pid int) {
	if err := os.RemoveAll(filepath.Join(f.dir, fmt.Sprint(pid))); err != nil {
		f.t.Fatal(err)
	}
}

func TestExecutableName(t *testing.T) {
	for _, tc := range []struct{ what, exe, comm, cmdline, want string }{
		{"executable", "/usr/libexec/c-lightning/plugins/cln-askrene", "cln-askrene", "x", "cln-askrene"},
		{"replaced by an upgrade", "/usr/bin/lightningd (deleted)", "lightningd", "x", "lightningd"},
		{"not ours to trace", "", "lightningd", "/usr/bin/other\x00--x", "lightningd"},
		{"not ours and cut", "", "lightning_chann", "/usr/libexec/lightning_channeld\x00", "lightning_channeld"},
		{"not ours, cut, and arguments that lie", "", "lightning_chann", "sh\x00", "lightning_chann"},
		{"name that is no text", "/bin/a\xff\nb", "x", "", "a\ufffd\ufffdb"},
		{"name with parentheses", "/bin/a) S 1 (b", "a) S 1 (b", "", "a) S 1 (b"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			proc := newFakeProc(t)
			proc.run(7, 100, tc.exe, tc.comm, tc.cmdline)
			got := NewResolver(proc.dir).Resolve(7, "fallback", time.Now())
			if got.Name != tc.want || !got.Known || got.PID != 7 || got.StartTime != 100 {
				t.Errorf("got %+v, want name %q", *got, tc.want)
			}
		})
	}
}

func TestExitedProcessKeepsItsNameAndReusedPIDDoesNotInheritIt(t *testing.T) {
	proc := newFakeProc(t)
	r := NewResolver(proc.dir)
	now := time.Now()
	later := func() time.Time { now = now.Add(recheck); return now }

	proc.run(7, 100, "/bin/pay", "pay", "")
	pay := r.Resolve(7, "lightningd", now)
	proc.exit(7)
	if got := r.Resolve(7, "lightningd", later()); got != pay {
		t.Errorf("after its exit pid 7 is %+v, want still %+v", *got, *pay)
	}
	proc.run(7, 200, "/bin/sql", "sql", "")
	sql := r.Resolve(7, "lightningd", later())
	if sql == pay || sql.Name != "sql" {
		t.Errorf("pid 7, used again by sql, is %+v", *sql)
	}
	if pay.Name != "pay" {
		t.Errorf("the identity of the first process changed to %+v", *pay)
	}
}

func TestUnknownSender(t *testing.T) {
	r := NewResolver(newFakeProc(t).dir)
	now := time.Now()
	gone := r.Resolve(7, "lightningd", now)
	if gone.Name != "lightningd" || gone.Known || gone.PID != 7 {
		t.Errorf("a process never seen alive: %+v", *gone)
	}
	a, b := r.Resolve(0, "a", now), r.Resolve(0, "b", now)
	if a == b || a.Name != "a" || b.Name != "b" || a.PID != 0 {
		t.Errorf("senders from another pid namespace: %+v and %+v", *a, *b)
	}
	if again := r.Resolve(0, "a", now.Add(time.Hour)); again != a {
		t.Errorf("sender a became %+v", *again)
	}
}

func TestProcessNeverSeenAliveIsRecognizedWhenItsPIDComesAgain(t *testing.T) {
	proc := newFakeProc(t)
	r := NewResolver(proc.dir)
	now := time.Now()
	r.Resolve(7, "lightningd", now)
	proc.run(7, 300, "/bin/sql", "sql", "")
	if got := r.Resolve(7, "lightningd", now.Add(recheck)); got.Name != "sql" {
		t.Errorf("got %+v, want sql", *got)
	}
}

func TestRealProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("skipped: no procfs on this system")
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("skipped: no sleep command")
	}
	link := filepath.Join(t.TempDir(), "cln-something-with-a-long-name")
	if err := os.Symlink(sleep, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(link, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := int32(cmd.Process.Pid)
	r := NewResolver("/proc")
	got := r.Resolve(pid, "x", time.Now())
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	target, err := filepath.EvalSymlinks(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != filepath.Base(target) || got.StartTime == 0 {
		t.Errorf("got %+v, want the name %q of the file behind the link", *got, filepath.Base(target))
	}
	if again := r.Resolve(pid, "x", time.Now().Add(time.Minute)); again != got {
		t.Errorf("after its exit it became %+v", *again)
	}
}

func BenchmarkResolve(b *testing.B) {
	r := NewResolver("/proc")
	pid := int32(os.Getpid())
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		r.Resolve(pid, "lightningd", now)
	}
}

// A process that cannot be looked up once, for want of file descriptors, gets its name
// at the next look.
func TestNameIsFoundOutLater(t *testing.T) {
	proc := newFakeProc(t)
	proc.run(7, 100, "/bin/pay", "pay", "")
	for _, file := range []string{"stat", "exe"} {
		t.Run(file, func(t *testing.T) {
			r := NewResolver(proc.dir)
			full := true
			r.readFile = func(path string) ([]byte, error) {
				if full && filepath.Base(path) == file {
					return nil, &os.PathError{Op: "open", Path: path, Err: syscall.EMFILE}
				}
				return os.ReadFile(path)
			}
			r.readlink = func(path string) (string, error) {
				if full && filepath.Base(path) == file {
					return "", &os.PathError{Op: "readlink", Path: path, Err: syscall.ENOMEM}
				}
				return os.Readlink(path)
			}
			now := time.Now()
			if got := r.Resolve(7, "lightningd", now); got.Name != "lightningd" || got.Known {
				t.Errorf("at first it is %+v", *got)
			}
			full = false
			found := r.Resolve(7, "lightningd", now.Add(recheck))
			if found.Name != "pay" || !found.Known {
				t.Errorf("later it is %+v", *found)
			}
			if again := r.Resolve(7, "lightningd", now.Add(2*recheck)); again != found {
				t.Errorf("then it is another: %+v", *again)
			}
		})
	}
}
