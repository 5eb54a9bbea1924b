//go:build unix

package trace

import (
	"bytes"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestSend(t *testing.T) {
	for _, tc := range []struct {
		name   string
		listen string // in the working directory; empty: nobody
		path   string
		want   syscall.Errno
	}{
		{"relative", "s", "s", 0},
		{"nobody", "", "s", syscall.ENOENT},
		{"at sign is a letter", "./@s", "@s", 0},
		{"cut at 107 bytes", strings.Repeat("x", 107), strings.Repeat("x", 120), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if tc.listen != "" {
				listen(t, tc.listen)
			}
			e, err := Open(tc.path)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if got := e.Send([]byte("datagram")); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestServeReportsWhatTheKernelRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := listen(t, path)
	const more = 2000 // than any queue limit in use
	orders, err := json.Marshal(Order{Payloads: make([][]byte, more)})
	if err != nil {
		t.Fatal(err)
	}
	var answers bytes.Buffer
	if err := Serve(path, bytes.NewReader(orders), &answers); err != nil {
		t.Fatal(err)
	}
	var outcome Outcome
	if err := json.Unmarshal(answers.Bytes(), &outcome); err != nil {
		t.Fatal(err)
	}
	sent, refused := 0, 0
	for _, errno := range outcome.Errnos {
		switch errno {
		case 0:
			sent++
		case syscall.EAGAIN:
			refused++
		default:
			t.Fatal(errno)
		}
	}
	if sent == 0 || refused == 0 || sent+refused != more {
		t.Errorf("%d sent, %d refused of %d", sent, refused, more)
	}
	if queued := drain(t, c); queued != sent {
		t.Errorf("%d in the queue, %d reported as sent", queued, sent)
	}
}

func TestSendPatientlyGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listen(t, path)
	e, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for e.Send(nil) == 0 {
	}
	if got := e.SendPatiently(nil, time.Millisecond); got != syscall.EAGAIN {
		t.Errorf("got %v, want %v", got, syscall.EAGAIN)
	}
}

// drain counts the datagrams in the queue of c, and removes them.
func drain(t *testing.T, c *net.UnixConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Read(func(fd uintptr) (done bool) {
		for b := make([]byte, 64); ; n++ {
			if _, _, failed = syscall.Recvfrom(int(fd), b, syscall.MSG_DONTWAIT); failed != nil {
				return true
			}
		}
	})
	if err != nil || failed != syscall.EAGAIN {
		t.Fatal(err, failed)
	}
	return n
}
