package socket

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"clntrace/collector/voice"
)

// sendTo, set in the environment, makes the test binary a sender.
const sendTo = "CLNTRACE_TEST_SEND_TO"

func TestMain(m *testing.M) {
	if path := os.Getenv(sendTo); path != "" {
		fd, err := connect(path)
		if err == nil {
			err = unix.Sendto(fd, []byte("from another process"), 0, nil)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must come.
const patience = time.Minute

// tempDir is a directory with a path short enough for sockets, which users
// without rights may enter as well.
func tempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "clntrace")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	must(tb, os.Chmod(dir, 0o755)) //nolint:gosec // see above
	return dir
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// logged is a slog.Handler that keeps what is logged.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) WithGroup(string) slog.Handler            { return l }
func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, r.Level.String()+" "+r.Message)
	return nil
}

// expect wants exactly one more line, with those parts, or none.
func (l *logged) expect(t *testing.T, parts ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	if len(parts) == 0 {
		if len(lines) > 0 {
			t.Errorf("logged %q, want nothing", lines)
		}
		return
	}
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "WARN ") {
		t.Errorf("logged %q, want one warning", lines)
		return
	}
	for _, part := range parts {
		if !strings.Contains(lines[0], part) {
			t.Errorf("logged %q, want %q in it", lines[0], part)
		}
	}
}

// open is a Receiver at path that is closed with the test.
func open(tb testing.TB, path string) (*Receiver, *logged) {
	tb.Helper()
	log := new(logged)
	r := Open(path, slog.New(log), voice.Plugin)
	tb.Cleanup(r.Close)
	return r, log
}

func openListening(tb testing.TB, path string) (*Receiver, *logged) {
	tb.Helper()
	r, log := open(tb, path)
	if s := r.Status(); !s.Listening || s.Problem != "" || s.Path != path {
		tb.Fatalf("status %+v", s)
	}
	return r, log
}

// connect makes a socket that sends to path and waits where there is no room.
func connect(path string) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0); err != nil {
		return -1, err
	}
	if strings.HasPrefix(path, "@") { // for Go that is not a file, and ./@ may be too long
		alias := "alias"
		if err = os.Symlink(path, alias); err != nil {
			return -1, err
		}
		defer func() { _ = os.Remove(alias) }()
		path = alias
	}
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func dial(tb testing.TB, path string) (fd int) {
	tb.Helper()
	fd, err := connect(path)
	must(tb, err)
	tb.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func send(tb testing.TB, fd int, payloads ...string) {
	tb.Helper()
	for _, p := range payloads {
		must(tb, unix.Sendto(fd, []byte(p), 0, nil))
	}
}

// receive takes n datagrams, or all until Ready is closed if n is negative.
func receive(tb testing.TB, r *Receiver, n int) (list []Datagram) {
	tb.Helper()
	deadline := time.After(patience)
	for open := true; open && len(list) != n; {
		select {
		case <-r.Ready():
		case <-deadline:
			tb.Fatalf("%d datagrams after %v, want %d", len(list), patience, n)
		}
		var some []Datagram
		some, open = r.Take(nil, 1<<20)
		for _, d := range some {
			d.Payload = slices.Clone(d.Payload)
			list = append(list, d)
		}
		r.Release()
	}
	return list
}

func payloads(list []Datagram) (texts []string) {
	for _, d := range list {
		texts = append(texts, string(d.Payload))
	}
	return texts
}

// works tells that datagrams sent to path arrive at r.
func works(t *testing.T, r *Receiver, path string) {
	t.Helper()
	send(t, dial(t, path), "a", "b")
	if got := payloads(receive(t, r, 2)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("received %q", got)
	}
}

// look describes what is at path, so that any change can be seen.
func look(tb testing.TB, path string) string {
	tb.Helper()
	var st unix.Stat_t
	switch err := unix.Lstat(path, &st); err {
	case nil:
		return fmt.Sprintf("mode %o, inode %d, %d bytes, of %v", st.Mode, st.Ino, st.Size, st.Mtim)
	case unix.ENOENT, unix.ENOTDIR:
		return "nothing"
	default:
		tb.Fatal(err)
		return ""
	}
}

func mode(tb testing.TB, path string) os.FileMode {
	tb.Helper()
	info, err := os.Lstat(path)
	must(tb, err)
	return info.Mode()
}

// listenAt is somebody else's socket at path. Its file stays when it is closed.
func listenAt(tb testing.TB, path string, kind int) (stop func()) {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, kind, 0)
	must(tb, err)
	stop = sync.OnceFunc(func() { _ = unix.Close(fd) })
	tb.Cleanup(stop)
	must(tb, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	if kind != unix.SOCK_DGRAM {
		must(tb, unix.Listen(fd, 1))
	}
	return stop
}

// connectAt makes a socket at path that hears nobody but the one at peer.
func connectAt(tb testing.TB, path, peer string) {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	must(tb, err)
	tb.Cleanup(func() { _ = unix.Close(fd) })
	must(tb, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	must(tb, unix.Connect(fd, &unix.SockaddrUnix{Name: peer}))
}
