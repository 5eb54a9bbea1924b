package tests

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// nobody and stranger are users without rights, neither of whom has to exist.
const nobody, stranger = 65534, 65533

func asUser(t *testing.T, uid uint32) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can start processes as other users")
	}
	return &syscall.Credential{Uid: uid, Gid: uid}
}

// plot is where a test lays out what the plugin will find.
type plot struct {
	cfg  lightningdtest.Config
	dir  string // the network's directory
	path string // what CLN_TRACE_SOCKET will be, unless cfg says otherwise
}

func TestWithoutASocketThePluginStaysUpAndSaysWhy(t *testing.T) {
	for _, tc := range []struct {
		name string
		lay  func(*testing.T, *plot)
		says string // in a warning and a log line, in any case
	}{
		{"not set", func(t *testing.T, p *plot) { p.cfg.WithoutTraceSocket = true }, "CLN_TRACE_SOCKET"},
		{"empty", func(t *testing.T, p *plot) {
			p.cfg.WithoutTraceSocket = true
			p.cfg.Env = []string{"CLN_TRACE_SOCKET="}
		}, "CLN_TRACE_SOCKET"},
		{"path too long", func(t *testing.T, p *plot) {
			p.cfg.TraceSocket = filepath.Join(p.dir, strings.Repeat("x", 107-len(p.dir)))
		}, "107"},
		{"directory missing", func(t *testing.T, p *plot) {
			p.cfg.TraceSocket = filepath.Join(p.dir, "missing", "trace.sock")
		}, "missing"},
		{"directory not writable", func(t *testing.T, p *plot) {
			p.cfg.Credential = asUser(t, nobody)
			p.cfg.TraceSocket = filepath.Join(lightningdtest.Dir(t), "trace.sock")
		}, "permission denied"},
		{"file in the way", func(t *testing.T, p *plot) { write(t, p.path) }, "trace.sock"},
		{"empty file in the way", func(t *testing.T, p *plot) {
			if err := os.WriteFile(p.path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "trace.sock"},
		{"directory in the way", func(t *testing.T, p *plot) {
			if err := os.Mkdir(p.path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "trace.sock"},
		{"dangling link in the way", func(t *testing.T, p *plot) {
			if err := os.Symlink("nowhere", p.path); err != nil {
				t.Fatal(err)
			}
		}, "trace.sock"},
		{"another receiver", func(t *testing.T, p *plot) { listenAt(t, p.path) }, "another process is listening"},
		{"another server", func(t *testing.T, p *plot) {
			l, err := net.Listen("unix", p.path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "trace.sock"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := lay(t, otlptest.Reserve(t))
			tc.lay(t, p)
			before := look(t, p.path)

			n := launch(t, p.cfg)
			r := stats(t, n)
			if r.Status != "degraded" || r.Socket.State != "not listening" {
				t.Errorf("status %q, socket %q", r.Status, r.Socket.State)
			}
			says := func(s string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(tc.says)) }
			if !slices.ContainsFunc(r.Warnings, says) {
				t.Errorf("no warning says %q: %q", tc.says, r.Warnings)
			}
			endCleanly(t, n)
			lines := logged(n, "unusual", says)
			if len(lines) != 1 {
				t.Errorf("%d lines at unusual say %q, want 1: %q", len(lines), tc.says, n.Logs())
			}
			if after := look(t, p.path); after != before {
				t.Errorf("the plugin touched %s: it was %s, it is %s", p.path, before, after)
			}
		})
	}
}

func lay(t *testing.T, r *otlptest.Receiver) *plot {
	t.Helper()
	p := &plot{cfg: config(r, nil)}
	p.cfg.LightningDir = lightningdtest.Dir(t)
	p.dir = filepath.Join(p.cfg.LightningDir, lightningdtest.Network)
	p.path = filepath.Join(p.dir, "trace.sock")
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// look describes what is at path, so that any change can be seen.
func look(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if os.IsNotExist(err) {
		return "nothing"
	}
	if err != nil {
		t.Fatal(err)
	}
	inode := info.Sys().(*syscall.Stat_t).Ino
	return fmt.Sprintf("%v, inode %d, %d bytes, of %v", info.Mode(), inode, info.Size(), info.ModTime())
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// listenAt is another receiver at path. Its socket file stays when it closes.
func listenAt(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// logged are the log lines at that level that a test is after.
func logged(n *lightningdtest.Node, level string, wanted func(string) bool) (lines []string) {
	for _, l := range n.Logs() {
		if l.Level == level && wanted(l.Message) {
			lines = append(lines, l.Message)
		}
	}
	return lines
}

func TestSocketPaths(t *testing.T) {
	for _, tc := range []struct {
		name string
		lay  func(*testing.T, *plot)
		file string // where the socket must be, in the network's directory; empty: at plot.path
	}{
		{"absolute", func(*testing.T, *plot) {}, ""},
		{"relative", func(_ *testing.T, p *plot) { p.cfg.TraceSocket = "relative.sock" }, "relative.sock"},
		{"at sign", func(_ *testing.T, p *plot) { p.cfg.TraceSocket = "@trace" }, "@trace"},
		{"107 bytes", func(_ *testing.T, p *plot) {
			p.cfg.TraceSocket = filepath.Join(p.dir, strings.Repeat("x", 106-len(p.dir)))
		}, "x"},
		{"stale socket", func(t *testing.T, p *plot) {
			if err := listenAt(t, p.path).Close(); err != nil {
				t.Fatal(err)
			}
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := otlptest.Start(t)
			p := lay(t, r)
			tc.lay(t, p)
			n := launch(t, p.cfg)
			send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 3)...)
			r.WaitSpans(t, 3)

			at := n.TraceSocket
			if !filepath.IsAbs(at) {
				at = filepath.Join(n.Dir, at)
			}
			if tc.file != "" && !strings.HasPrefix(filepath.Base(at), tc.file) {
				t.Fatalf("socket at %s", at)
			}
			if mode := modeOf(t, at); mode != fs.ModeSocket|0o600 {
				t.Errorf("mode %v", mode)
			}
			if s := stats(t, n); s.Status != "ok" || s.Socket.State != "listening" {
				t.Errorf("status %q, socket %q, warnings %q", s.Status, s.Socket.State, s.Warnings)
			}
			endCleanly(t, n)
			if left := look(t, at); left != "nothing" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

// The first datagram comes when all plugins have answered getmanifest, so a
// socket that is there by then misses nothing.
func TestSocketIsBoundBeforeGetManifest(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	n := lightningdtest.Start(t, config(r, nil))
	s := n.Senders(sender).Start("lightningd")
	wait.For(t, "the socket", func() bool { return sends(t, s, recording.Numbered("plugins/init", 1, 1)[0]) })
	n.GetManifest()
	n.Init()
	r.WaitSpans(t, 1)
}

// sends tells whether the kernel took the datagram.
func sends(t *testing.T, s *lightningdtest.Sender, payload []byte) bool {
	t.Helper()
	errnos, err := s.Send(payload)
	if err != nil {
		t.Fatal(err)
	}
	return errnos[0] == 0
}

func TestSocketIsNeverWiderThan0600(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	p := lay(t, r)
	// With no umask, bind alone would make the socket everybody's.
	p.cfg.Plugin, p.cfg.Args = "sh", []string{"-c", `umask 0; exec "$0"`, clntrace}
	watched, stop := make(chan map[fs.FileMode]int), make(chan struct{})
	go func() { watched <- watchMode(p.path, stop) }()
	n := launch(t, p.cfg)
	endCleanly(t, n)
	close(stop)
	modes := <-watched
	if modes[fs.ModeSocket|0o600] == 0 {
		t.Errorf("the socket was never seen with mode 0600: %v", modes)
	}
	for mode := range modes {
		if mode != fs.ModeSocket|0o600 {
			t.Errorf("the socket was seen with mode %v", mode)
		}
	}
}

// watchMode looks at a file as often as it can, and counts its modes.
func watchMode(path string, stop <-chan struct{}) map[fs.FileMode]int {
	modes := map[fs.FileMode]int{}
	for {
		select {
		case <-stop:
			return modes
		default:
		}
		if info, err := os.Lstat(path); err == nil {
			modes[info.Mode()]++
		}
		runtime.Gosched()
	}
}

func TestSocketThatIsRemovedIsBoundAnew(t *testing.T) {
	t.Parallel()
	n, r := launchWith(t, nil)
	s := n.Senders(sender).Start("lightningd")
	send(t, s, recording.Numbered("extend_tip", 1, 1)...)
	r.WaitSpans(t, 1)
	if err := os.Remove(n.TraceSocket); err != nil {
		t.Fatal(err)
	}
	wait.For(t, "a new socket", func() bool { return sends(t, s, recording.Numbered("extend_tip", 2, 1)[0]) })
	r.WaitSpans(t, 2)
	if mode := modeOf(t, n.TraceSocket); mode != fs.ModeSocket|0o600 {
		t.Errorf("mode of the new socket: %v", mode)
	}
	if s := stats(t, n); s.Status != "ok" || s.Socket.State != "listening" {
		t.Errorf("status %q, socket %q, warnings %q", s.Status, s.Socket.State, s.Warnings)
	}
	endCleanly(t, n)
	if lines := logged(n, "unusual", mentions(n.TraceSocket)); len(lines) != 1 {
		t.Errorf("%d lines about it, want 1: %q", len(lines), n.Logs())
	}
	if left := look(t, n.TraceSocket); left != "nothing" {
		t.Errorf("left behind: %s", left)
	}
}

func mentions(text string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, text) }
}

func TestSocketOfAnotherReceiverIsNotStolen(t *testing.T) {
	t.Parallel()
	n, _ := launchWith(t, nil)
	if err := os.Remove(n.TraceSocket); err != nil {
		t.Fatal(err)
	}
	listenAt(t, n.TraceSocket)
	theirs := look(t, n.TraceSocket)
	n.WaitLog("unusual", n.TraceSocket)
	waitStats(t, n, "the loss of the socket", func(r report) bool {
		return r.Status == "degraded" && r.Socket.State == "not listening" && len(r.Warnings) > 0
	})
	endCleanly(t, n)
	if now := look(t, n.TraceSocket); now != theirs {
		t.Errorf("the other's socket was %s, it is %s", theirs, now)
	}
	// That ours is gone, and that there is no place for another.
	if lines := logged(n, "unusual", mentions(n.TraceSocket)); len(lines) > 2 {
		t.Errorf("%d lines about it: %q", len(lines), lines)
	}
}

func TestStrangersAreNotHeard(t *testing.T) {
	for _, tc := range []struct {
		name     string
		allow    string // clntrace-allow-uids
		uid      uint32
		accepted bool
		mode     fs.FileMode
	}{
		{"stranger", "", stranger, false, 0o600},
		{"allowed", fmt.Sprint(nobody), nobody, true, 0o666},
		{"another is allowed", fmt.Sprint(nobody), stranger, false, 0o666},
		{"root, when another is allowed", fmt.Sprint(nobody), 0, true, 0o666},
		{"two are allowed", fmt.Sprint(stranger, ",", nobody), stranger, true, 0o666},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			who := asUser(t, tc.uid)
			r := otlptest.Start(t)
			n := launch(t, config(r, map[string]string{"clntrace-allow-uids": tc.allow}))
			wait.For(t, "the mode", func() bool { return modeOf(t, n.TraceSocket).Perm() == tc.mode })
			// Whatever opens the socket to others, the plugin decides whom it hears.
			if err := os.Chmod(n.TraceSocket, 0o666); err != nil {
				t.Fatal(err)
			}
			s := n.Senders(sender).StartAs("lightningd", who)
			send(t, s, recording.Numbered("extend_tip", 1, 3)...)
			got := received(t, n, 3).Datagrams
			switch {
			case tc.accepted && got.Accepted != 3:
				t.Errorf("not accepted: %+v", got)
			case !tc.accepted && got.Refused != 3:
				t.Errorf("not refused: %+v", got)
			}
			endCleanly(t, n)
			if exported := len(r.Spans()); (exported == 3) != tc.accepted {
				t.Errorf("%d spans were exported", exported)
			}
		})
	}
}

// Without clntrace-allow-uids, not even the kernel lets a stranger send.
func TestStrangersCannotSend(t *testing.T) {
	t.Parallel()
	who := asUser(t, stranger)
	n, _ := launchWith(t, nil)
	errnos, err := n.Senders(sender).StartAs("lightningd", who).Send([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if errnos[0] != syscall.EACCES {
		t.Errorf("sendto: %v", errnos[0])
	}
}

// Under another user than root, the plugin hears that user and root.
func TestPluginOfAnotherUser(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	cfg := config(r, nil)
	cfg.Credential = asUser(t, nobody)
	n := launch(t, cfg)
	senders := n.Senders(sender)
	send(t, senders.StartAs("lightningd", cfg.Credential), recording.Numbered("extend_tip", 1, 1)...)
	send(t, senders.Start("cln-xpay"), recording.Numbered("extend_tip", 2, 1)...)
	if err := os.Chmod(n.TraceSocket, 0o666); err != nil {
		t.Fatal(err)
	}
	send(t, senders.StartAs("pay", asUser(t, stranger)), recording.Numbered("extend_tip", 3, 1)...)
	if got := received(t, n, 3).Datagrams; got.Accepted != 2 || got.Refused != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestKilledPluginsSocketIsReplaced(t *testing.T) {
	t.Parallel()
	r := otlptest.Start(t)
	p := lay(t, r)
	first := launch(t, p.cfg)
	first.Signal(syscall.SIGKILL)
	first.WaitExit()
	if left := look(t, p.path); left == "nothing" {
		t.Fatal("no socket left behind by SIGKILL")
	}
	second := launch(t, p.cfg)
	send(t, second.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 1)...)
	r.WaitSpans(t, 1)
}
