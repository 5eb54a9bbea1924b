package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDatagramsOfAllSizes(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	fd := dial(t, path)
	sizes := []int{0, 1, 191, 2047, 2048, 0, 4095, 4096, 4097, 8192, 60_000, 3}
	for _, size := range sizes {
		send(t, fd, strings.Repeat("x", size))
	}
	for i, d := range receive(t, r, len(sizes)) {
		want := min(sizes[i], maxDatagram)
		if len(d.Payload) != want || d.Oversize != (sizes[i] > maxDatagram) || strings.Trim(string(d.Payload), "x") != "" {
			t.Errorf("of %d bytes came %d, oversize %v", sizes[i], len(d.Payload), d.Oversize)
		}
	}
}

func TestOrderIsKept(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	var want []string
	for i := range 5000 {
		want = append(want, fmt.Sprintf("%d %s", i, strings.Repeat(".", i%300)))
	}
	var sending sync.WaitGroup
	fd := dial(t, path)
	sending.Go(func() { send(t, fd, want...) })
	got := payloads(receive(t, r, len(want)))
	sending.Wait()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("datagram %d is %q, want %q", i, got[i], want[i])
		}
	}
	if s := r.Status(); s.Dropped != 0 || s.DroppedBytes != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestRemovedSocketIsBoundAnew(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, log := openListening(t, path)
	r.check()
	log.expect(t) // all is well
	old := dial(t, path)
	must(t, os.Remove(path))
	send(t, old, "to the old one")
	r.check()
	log.expect(t, path, "removed or replaced", "anew")
	if s := r.Status(); !s.Listening || s.Problem != "" {
		t.Errorf("status %+v", s)
	}
	if m := mode(t, path); m != fs.ModeSocket|0o600 {
		t.Errorf("mode %v", m)
	}
	// Who was connected to the old one loses nothing that had been sent.
	if got := payloads(receive(t, r, 1)); got[0] != "to the old one" {
		t.Errorf("received %q", got)
	}
	if err := unix.Sendto(old, []byte("x"), 0, nil); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the old one is not closed: %v", err)
	}
	works(t, r, path)
	r.Close()
	if left := look(t, path); left != "nothing" {
		t.Errorf("left behind: %s", left)
	}
}

func TestReplacedSocketIsBoundAnewWhereItMay(t *testing.T) {
	for _, tc := range []struct {
		name    string
		replace func(t *testing.T, path string) (stop func())
		problem string // empty: it is bound anew at once
	}{
		{"by a live receiver", func(t *testing.T, path string) func() { return listenAt(t, path, unix.SOCK_DGRAM) }, "another process is listening on it"},
		{"by a live server", func(t *testing.T, path string) func() { return listenAt(t, path, unix.SOCK_STREAM) }, "another process is listening on it"},
		{"by a stale socket", func(t *testing.T, path string) func() {
			listenAt(t, path, unix.SOCK_DGRAM)()
			return func() {}
		}, ""},
		{"by a file", func(t *testing.T, path string) func() {
			must(t, os.WriteFile(path, []byte(inTheWay), 0o600))
			return func() { must(t, os.Remove(path)) }
		}, "is not a socket (a file)"},
		{"by a directory", func(t *testing.T, path string) func() {
			must(t, os.Mkdir(path, 0o700))
			return func() { must(t, os.Remove(path)) }
		}, "is not a socket (a directory)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "t")
			r, log := openListening(t, path)
			must(t, os.Remove(path))
			stop := tc.replace(t, path)
			theirs := look(t, path)
			r.check()
			if tc.problem == "" {
				log.expect(t, path, "removed or replaced", "anew")
				works(t, r, path)
				return
			}
			// The loss and what came of it are one event, and one line.
			log.expect(t, path, "removed or replaced", tc.problem)
			if s := r.Status(); s.Listening || !strings.Contains(s.Problem, tc.problem) {
				t.Errorf("status %+v", s)
			}
			r.check()
			log.expect(t)
			if now := look(t, path); now != theirs {
				t.Errorf("theirs was %s, it is %s", theirs, now)
			}

			stop()
			r.check()
			log.expect(t, "listening for spans on "+path)
			if s := r.Status(); !s.Listening || s.Problem != "" {
				t.Errorf("status %+v", s)
			}
			works(t, r, path)
		})
	}
}

func TestReceiverListensWhenTheWayIsClear(t *testing.T) {
	dir := filepath.Join(tempDir(t), "later")
	path := filepath.Join(dir, "t")
	r, log := open(t, path)
	log.expect(t, "does not exist")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.WriteFile(path, nil, 0o600))
	r.check()
	log.expect(t, "is not a socket") // another problem is said anew
	must(t, os.Remove(path))
	r.check()
	log.expect(t, "listening for spans on "+path)
	works(t, r, path)
}

func TestCloseRemovesOnlyItsOwnFile(t *testing.T) {
	for _, tc := range []struct {
		name string
		put  func(t *testing.T, path string)
	}{
		{"nothing", func(*testing.T, string) {}},
		{"file", func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte(inTheWay), 0o600)) }},
		{"live socket", func(t *testing.T, path string) { listenAt(t, path, unix.SOCK_DGRAM) }},
		{"stale socket", func(t *testing.T, path string) { listenAt(t, path, unix.SOCK_DGRAM)() }},
		{"link to the socket", func(t *testing.T, path string) { must(t, os.Symlink("moved", path)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tempDir(t)
			path := filepath.Join(dir, "t")
			r, _ := openListening(t, path)
			must(t, os.Rename(path, filepath.Join(dir, "moved")))
			tc.put(t, path)
			theirs := look(t, path)
			r.Close()
			if now := look(t, path); now != theirs {
				t.Errorf("theirs was %s, it is %s", theirs, now)
			}
		})
	}
}

func TestCloseReadsWhatHadBeenSent(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	for range 50 {
		r, _ := openListening(t, path)
		fd, err := connect(path)
		must(t, err)
		var want []string
		for i := range 30 {
			want = append(want, fmt.Sprint(i))
			send(t, fd, want[i])
		}
		must(t, unix.Close(fd))
		closed := make(chan struct{})
		go func() { r.Close(); close(closed) }()
		if got := payloads(receive(t, r, -1)); !slices.Equal(got, want) {
			t.Fatalf("received %q, want %q", got, want)
		}
		<-closed
		if list, open := r.Take(nil, 1); len(list) != 0 || open {
			t.Fatalf("after the end there were %d more, open: %v", len(list), open)
		}
		if left := look(t, path); left != "nothing" {
			t.Fatalf("left behind: %s", left)
		}
	}
}

func TestCloseEndsUnderAFlood(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	fd := dial(t, path)
	var flood sync.WaitGroup
	started := make(chan struct{})
	flood.Go(func() {
		payload := make([]byte, 100)
		for n := 0; unix.Sendto(fd, payload, 0, nil) == nil; n++ {
			if n == 100 {
				close(started)
			}
		}
	})
	<-started
	r.Close()
	flood.Wait() // the socket is closed: it cannot send any more
	if s := r.Status(); s.Listening {
		t.Errorf("status %+v", s)
	}
}

func TestCloseMoreThanOnce(t *testing.T) {
	dir := tempDir(t)
	for _, path := range []string{filepath.Join(dir, "t"), filepath.Join(dir, "missing", "t")} {
		r, _ := open(t, path)
		var all sync.WaitGroup
		for range 3 {
			all.Go(r.Close)
		}
		all.Wait()
		r.Close()
		if got := receive(t, r, -1); len(got) != 0 {
			t.Errorf("received %v", got)
		}
		if s := r.Status(); s.Listening {
			t.Errorf("status %+v", s)
		}
	}
}

// openToAll opens the socket to all users and accepts what anybody sends.
func openToAll(r *Receiver) {
	r.Allow(nil, true)
	r.queue.allowed.Store(nil)
}

func TestOpenToAllIsTriedAgain(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	must(t, os.Rename(path, path+".moved"))
	openToAll(r)
	if r.Status().Closed == "" {
		t.Fatal("a socket that is not there was opened")
	}
	must(t, os.Rename(path+".moved", path))
	r.check()
	if s := r.Status(); s.Closed != "" || mode(t, path) != fs.ModeSocket|0o666 {
		t.Errorf("status %+v, mode %v", s, mode(t, path))
	}
}

func TestUsersWhoMayNotSendAreCountedAndTakeNoRoom(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	r.Allow(map[uint32]bool{uint32(os.Geteuid()) + 1: true}, false)
	fd := dial(t, path)
	send(t, fd, "abc", "de")
	r.Close()
	if s := r.Status(); s.Refused != 2 || s.RefusedBytes != 5 {
		t.Errorf("%d refused with %d bytes", s.Refused, s.RefusedBytes)
	}
	if list := receive(t, r, -1); len(list) != 0 {
		t.Errorf("%d datagrams were let through", len(list))
	}
}

func TestOpenToAll(t *testing.T) {
	const wide = fs.ModeSocket | 0o666
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	for range 2 {
		openToAll(r)
		if m := mode(t, path); m != wide {
			t.Errorf("mode %v, want %v", m, wide)
		}
	}
	must(t, os.Remove(path))
	r.check()
	if m := mode(t, path); m != wide {
		t.Errorf("mode %v of the socket bound anew, want %v", m, wide)
	}
	works(t, r, path)
}

func TestOpenToAllBeforeTheSocketIsThere(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	must(t, os.Mkdir(path, 0o700))
	r, _ := open(t, path)
	openToAll(r)
	if m := mode(t, path); m != fs.ModeDir|0o700 {
		t.Errorf("mode of the directory in the way: %v", m)
	}
	must(t, os.Remove(path))
	r.check()
	if m := mode(t, path); m != fs.ModeSocket|0o666 {
		t.Errorf("mode %v", m)
	}
}

func TestOpenToAllRefusesAnothersFile(t *testing.T) {
	for _, tc := range []struct {
		name string
		put  func(t *testing.T, path string)
		want error
	}{
		{"nothing", func(*testing.T, string) {}, fs.ErrNotExist},
		{"file", func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) }, errNotOurs},
		{"socket", func(t *testing.T, path string) {
			listenAt(t, path, unix.SOCK_DGRAM)
			must(t, os.Chmod(path, 0o600))
		}, errNotOurs},
		{"link to a file", func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".secret", nil, 0o600))
			must(t, os.Symlink(path+".secret", path))
		}, errNotOurs},
		{"link to the socket", func(t *testing.T, path string) { must(t, os.Symlink(path+".moved", path)) }, errNotOurs},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "t")
			r, _ := openListening(t, path)
			must(t, os.Rename(path, path+".moved"))
			tc.put(t, path)
			openToAll(r)
			if !errors.Is(r.shut, tc.want) || r.Status().Closed == "" {
				t.Errorf("got %v, want %v", r.shut, tc.want)
			}
			for _, p := range []string{path, path + ".moved", path + ".secret"} {
				if info, err := os.Stat(p); err == nil && info.Mode().Perm() != 0o600 {
					t.Errorf("mode %v of %s", info.Mode(), p)
				}
			}
		})
	}
}

// While nobody takes, the receiver goes on: it keeps what fits, and counts
// what does not.
func TestDatagramsWithoutRoomAreCounted(t *testing.T) {
	path := filepath.Join(tempDir(t), "t")
	r, _ := openListening(t, path)
	fd := dial(t, path)
	const size, more = maxDatagram, 500
	room := int(ringSize / recordSize(size))
	payload := strings.Repeat("x", size)
	for range room + more {
		send(t, fd, payload)
	}
	send(t, fd, "") // fits always: records of this size leave a rest
	r.Close()
	if s := r.Status(); s.Dropped != more || s.DroppedBytes != more*size {
		t.Errorf("%d dropped with %d bytes, want %d with %d", s.Dropped, s.DroppedBytes, more, more*size)
	}
	if got := receive(t, r, -1); len(got) != room+1 || len(got[room].Payload) != 0 {
		t.Errorf("%d received, want the %d that fit and the empty one", len(got), room)
	}
}

// As lightningd sends: 257 bytes are its median. The senders wait where there
// is no room, so this is the rate at which nothing is lost.
func BenchmarkReceive(b *testing.B) {
	const senders = 2
	path := filepath.Join(tempDir(b), "t")
	r, _ := openListening(b, path)
	payload := []byte(strings.Repeat("x", 257))
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	var sending sync.WaitGroup
	for i := range senders {
		fd := dial(b, path)
		n := b.N / senders
		if i == 0 {
			n += b.N % senders
		}
		sending.Go(func() {
			for range n {
				if err := unix.Sendto(fd, payload, 0, nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	var list []Datagram
	for got := 0; got < b.N; {
		<-r.Ready()
		list, _ = r.Take(list[:0], 512)
		got += len(list)
		r.Release()
	}
	b.StopTimer()
	sending.Wait()
	s := r.Status()
	if s.Dropped != 0 {
		b.Errorf("%d were dropped", s.Dropped)
	}
	b.ReportMetric(float64(s.QueueFull)/float64(b.N), "full/op")
}
