package socket

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"clntrace/collector/voice"
)

const inTheWay = "precious"

func TestWhatIsInTheWayIsLeftAloneAndNamed(t *testing.T) {
	for _, tc := range []struct {
		name string
		lay  func(t *testing.T, dir, path string) (changed string)
		says []string // in the problem, besides the path
	}{
		{"file", func(t *testing.T, _, path string) string {
			must(t, os.WriteFile(path, []byte(inTheWay), 0o600))
			return ""
		}, []string{"a file"}},
		{"empty file", func(t *testing.T, _, path string) string {
			must(t, os.WriteFile(path, nil, 0o600))
			return ""
		}, []string{"a file"}},
		{"directory", func(t *testing.T, _, path string) string {
			must(t, os.Mkdir(path, 0o700))
			return ""
		}, []string{"a directory"}},
		{"pipe", func(t *testing.T, _, path string) string {
			must(t, unix.Mkfifo(path, 0o600))
			return ""
		}, []string{"a pipe"}},
		{"link to nothing", func(t *testing.T, _, path string) string {
			must(t, os.Symlink("nowhere", path))
			return ""
		}, []string{"a symbolic link"}},
		{"link to a file", func(t *testing.T, dir, path string) string {
			must(t, os.WriteFile(filepath.Join(dir, "file"), []byte(inTheWay), 0o600))
			must(t, os.Symlink("file", path))
			return ""
		}, []string{"a symbolic link"}},
		{"link to a stale socket", func(t *testing.T, dir, path string) string {
			listenAt(t, filepath.Join(dir, "stale"), unix.SOCK_DGRAM)()
			must(t, os.Symlink("stale", path))
			return ""
		}, []string{"a symbolic link"}},
		{"link to itself", func(t *testing.T, _, path string) string {
			must(t, os.Symlink(path, path))
			return ""
		}, []string{"a symbolic link"}},
		{"another receiver", func(t *testing.T, _, path string) string {
			listenAt(t, path, unix.SOCK_DGRAM)
			return ""
		}, []string{"another process is listening on", "stop it"}},
		{"receiver that hears another only", func(t *testing.T, dir, path string) string {
			listenAt(t, filepath.Join(dir, "peer"), unix.SOCK_DGRAM)
			connectAt(t, path, filepath.Join(dir, "peer"))
			return ""
		}, []string{"another process is listening on", "operation not permitted", "stop it"}},
		{"server of streams", func(t *testing.T, _, path string) string {
			listenAt(t, path, unix.SOCK_STREAM)
			return ""
		}, []string{"another process is listening on", "stop it"}},
		{"directory missing", func(_ *testing.T, _, path string) string {
			return filepath.Join(path, "missing", "t")
		}, []string{"does not exist", "create it"}},
		{"directory that is a file", func(t *testing.T, _, path string) string {
			must(t, os.WriteFile(path, []byte(inTheWay), 0o600))
			return filepath.Join(path, "t")
		}, []string{"is not a directory"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tempDir(t)
			path := filepath.Join(dir, "trace.sock")
			asked := path
			if changed := tc.lay(t, dir, path); changed != "" {
				asked = changed
			}
			before := look(t, path)

			r, log := open(t, asked)
			s := r.Status()
			if s.Listening || s.Path != asked {
				t.Errorf("status %+v", s)
			}
			for _, part := range append(tc.says, path, "set CLN_TRACE_SOCKET to another path") {
				if !strings.Contains(s.Problem, part) {
					t.Errorf("the problem does not say %q: %s", part, s.Problem)
				}
			}
			log.expect(t, s.Problem)
			r.check() // looking again is not said again
			log.expect(t)
			r.Close()
			if after := look(t, path); after != before {
				t.Errorf("there was %s, there is %s", before, after)
			}
			if entries, err := os.ReadDir(filepath.Join(dir, "missing")); err == nil {
				t.Errorf("the missing directory was made and holds %v", entries)
			}
		})
	}
}

func TestDeviceInTheWay(t *testing.T) {
	_, err := bind(os.DevNull, false, voice.Plugin)
	if err == nil || !strings.Contains(err.Error(), "(a device); "+voice.Plugin.Elsewhere) {
		t.Errorf("got %v", err)
	}
}

func TestHopeless(t *testing.T) {
	dir := tempDir(t)
	file, stale := filepath.Join(dir, "file"), filepath.Join(dir, "stale")
	must(t, os.WriteFile(file, nil, 0o600))
	listenAt(t, stale, unix.SOCK_DGRAM)()
	for _, tc := range []struct{ path, says string }{
		{filepath.Join(dir, "t"), ""},
		{filepath.Join(dir, "missing", "t"), ""}, // somebody may make it
		{stale, ""},
		{file, "is not a socket (a file); start collect with another --socket"},
		{dir, "is not a socket (a directory)"},
		{os.DevNull, "is not a socket (a device)"},
		{filepath.Join(file, "t"), "is not a directory"},
		{"/" + strings.Repeat("x", MaxPath), "the path in --socket has 108 bytes"},
	} {
		err := Hopeless(tc.path, voice.Collect)
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want %q", tc.path, err, tc.says)
		}
	}
}

func TestLiveIsAnErrorToTellApart(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	listenAt(t, path, unix.SOCK_DGRAM)
	if _, err := bind(path, false, voice.Plugin); !errors.Is(err, errLive) {
		t.Errorf("got %v, want %v", err, errLive)
	}
}

func TestPaths(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, tc := range []struct {
		name string
		path func(dir string) string // the test runs in dir
		says string                  // empty: it can be bound
	}{
		{"absolute", func(dir string) string { return filepath.Join(dir, "t") }, ""},
		{"relative", func(string) string { return "t" }, ""},
		{"relative with a dot", func(string) string { return "./t" }, ""},
		{"in the parent directory", func(dir string) string { return "../" + filepath.Base(dir) + "/t" }, ""},
		{"107 bytes", func(dir string) string { return (dir + "/" + long)[:107] }, ""},
		{"108 bytes", func(dir string) string { return (dir + "/" + long)[:108] }, "has 108 bytes, and that of a unix socket at most 107"},
		{"relative, 107 bytes", func(string) string { return long[:107] }, ""},
		{"relative, 108 bytes", func(string) string { return long[:108] }, "108 bytes"},
		{"very long", func(string) string { return strings.Repeat("x/", 5000) }, "10000 bytes"},
		{"at sign", func(string) string { return "@trace" }, ""},
		{"nothing but an at sign", func(string) string { return "@" }, ""},
		{"at sign, 106 bytes", func(string) string { return "@" + long[:105] }, ""},
		{"at sign, 107 bytes", func(string) string { return "@" + long[:106] }, ""},
		{"at sign, 108 bytes", func(string) string { return "@" + long[:107] }, "108 bytes"},
		{"at sign further on", func(dir string) string { return filepath.Join(dir, "@trace") }, ""},
		{"blanks and other letters", func(string) string { return " ünï ☃" }, ""},
		{"bytes that are not UTF-8", func(string) string { return "\xff\xfe" }, ""},
		{"empty", func(string) string { return "" }, "CLN_TRACE_SOCKET is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tempDir(t)
			t.Chdir(dir)
			path := tc.path(dir)
			if tc.says != "" {
				r, log := open(t, path)
				if s := r.Status(); s.Listening || !strings.Contains(s.Problem, tc.says) || !strings.Contains(s.Problem, "CLN_TRACE_SOCKET") {
					t.Errorf("status %+v, want a problem with %q", s, tc.says)
				}
				log.expect(t, tc.says)
				return
			}
			r, log := openListening(t, path)
			log.expect(t)
			if m := mode(t, path); m != fs.ModeSocket|0o600 {
				t.Errorf("mode %v", m)
			}
			works(t, r, path)
			r.Close()
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
				t.Errorf("left behind: %v (%v)", entries, err)
			}
		})
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	for name, kind := range map[string]int{"of datagrams": unix.SOCK_DGRAM, "of streams": unix.SOCK_STREAM, "of packets": unix.SOCK_SEQPACKET} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "t")
			listenAt(t, path, kind)()
			stale := look(t, path)
			must(t, os.Chmod(path, 0o666)) //nolint:gosec // does its mode live on?
			r, log := openListening(t, path)
			log.expect(t)
			if now := look(t, path); now == stale || mode(t, path) != fs.ModeSocket|0o600 {
				t.Errorf("there was %s, there is %s", stale, now)
			}
			works(t, r, path)
		})
	}
}

func TestSocketIsNeverWiderThan0600(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	old := unix.Umask(0)
	defer unix.Umask(old)

	// Who looks all the time may see the socket appear.
	stop, watched := make(chan struct{}), make(chan map[fs.FileMode]int)
	go func() {
		modes := make(map[fs.FileMode]int)
		for {
			if info, err := os.Lstat(path); err == nil {
				modes[info.Mode()]++
			}
			select {
			case <-stop:
				watched <- modes
				return
			default:
			}
		}
	}()
	for range 500 {
		fd, err := openBound(path)
		must(t, err)
		if m := mode(t, path); m != fs.ModeSocket|0o600 {
			t.Fatalf("mode %v right after bind", m)
		}
		must(t, unix.Close(fd))
		must(t, os.Remove(path))
	}
	close(stop)
	for m := range <-watched {
		if m != fs.ModeSocket|0o600 {
			t.Errorf("the socket was seen with mode %v", m)
		}
	}
}

func TestFailedBindLeavesNoDescriptor(t *testing.T) {
	dir := tempDir(t)
	live := filepath.Join(dir, "live")
	listenAt(t, live, unix.SOCK_DGRAM)
	next := func() int { // the lowest descriptor that is free
		fd, err := unix.Dup(0)
		must(t, err)
		must(t, unix.Close(fd))
		return fd
	}
	before := next()
	for _, path := range []string{live, dir, filepath.Join(dir, "missing", "t"), strings.Repeat("x", 108)} {
		for range 3 {
			if s, err := bind(path, false, voice.Plugin); err == nil {
				t.Fatalf("bound %s: %+v", path, s)
			}
		}
	}
	if _, err := openBound(filepath.Join(dir, "missing", "t")); err == nil {
		t.Error("bound a socket in a directory that does not exist")
	}
	if after := next(); after != before {
		t.Errorf("the next descriptor was %d and is %d", before, after)
	}
}
