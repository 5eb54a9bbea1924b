package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"clntrace/collector/voice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testSpool is a Spool with what it counted and logged.
type testSpool struct {
	*Spool
	dir string
	t   testing.TB

	mu     sync.Mutex
	counts Change
	log    bytes.Buffer
}

// roomy is a Config in whose way nothing comes.
func roomy(dir string) Config {
	return Config{Dir: dir, Limit: 64 << 20, FileSpans: 2048, FileBytes: 1 << 20, Voice: voice.Plugin}
}

func newSpool(t testing.TB, cfg Config) *testSpool {
	s := &testSpool{dir: cfg.Dir, t: t}
	s.Spool = New(cfg, slog.New(slog.NewTextHandler(s, nil)), func(c Change) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.counts.Stored += c.Stored
		s.counts.Found += c.Found
		s.counts.Dropped += c.Dropped
	})
	t.Cleanup(s.Close)
	return s
}

// opened is newSpool with all of an earlier run counted.
func opened(t testing.TB, cfg Config) *testSpool {
	t.Helper()
	s := newSpool(t, cfg)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	for s.LookInto() {
	}
	return s
}

func (s *testSpool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *testSpool) logged(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.log.String(), text)
}

func (s *testSpool) want(want Change) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts != want {
		s.t.Errorf("counted %+v, want %+v", s.counts, want)
	}
}

// put stores a batch of one span.
func (s *testSpool) put(body string) {
	s.t.Helper()
	if err := s.Put(1, []byte(body)); err != nil {
		s.t.Fatal(err)
	}
}

// drain takes everything and returns the bodies.
func (s *testSpool) drain() (bodies []string) {
	for b := s.Next(0); b != nil; b = s.Next(0) {
		bodies = append(bodies, string(b.Body))
		s.Done(b)
	}
	return bodies
}

func entries(t testing.TB, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name() != lockName {
			names = append(names, e.Name())
		}
	}
	return names
}

func onDisk(t testing.TB, dir string) (n int64) {
	t.Helper()
	for _, name := range entries(t, dir) {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		n += blocks(info.Size())
	}
	return n
}

func newDir(t testing.TB) string { return filepath.Join(t.TempDir(), "spool") }

func TestBatchesComeInOrderAndTogether(t *testing.T) {
	cfg := roomy(newDir(t))
	cfg.FileSpans = 3
	s := opened(t, cfg)
	for i := range 8 {
		s.put(fmt.Sprint(i))
	}
	if got := s.drain(); !slices.Equal(got, []string{"012", "345", "67"}) {
		t.Errorf("got %q", got)
	}
	s.want(Change{Stored: 8})
	if left := entries(t, cfg.Dir); len(left) != 0 || s.Status().Bytes != 0 {
		t.Errorf("left behind: %q, %d bytes", left, s.Status().Bytes)
	}
}

func TestNothingIsAppendedToABatchThatWasTaken(t *testing.T) {
	s := opened(t, roomy(newDir(t)))
	s.put("a")
	b := s.Next(0)
	s.put("b")
	if other := s.Next(0); other != nil {
		t.Errorf("took %q while another was taken", other.Body)
	}
	s.Release(b, true)
	if b = s.Next(0); string(b.Body) != "a" || b.Attempts != 1 {
		t.Errorf("got %q after %d attempts", b.Body, b.Attempts)
	}
	s.Postpone(b)
	if got := s.drain(); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("got %q", got)
	}
}

func TestNextRunFindsWhatIsLeft(t *testing.T) {
	cfg := roomy(newDir(t))
	first := opened(t, cfg)
	first.put("a")
	first.put("b")
	taken := first.Next(0)
	first.Release(taken, false)
	first.put("c")
	first.Close()
	if err := first.Put(1, nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}

	second := newSpool(t, cfg)
	second.put("d") // before anybody has looked at what is left
	for second.LookInto() {
	}
	second.want(Change{Stored: 1, Found: 3})
	if got := second.drain(); !slices.Equal(got, []string{"ab", "c", "d"}) {
		t.Errorf("got %q", got)
	}
	if n := second.logged("WARN"); n != 0 {
		t.Errorf("%d warnings: %s", n, second.log.String())
	}
}

func TestOnlyTheOwnerCanRead(t *testing.T) {
	s := opened(t, roomy(newDir(t)))
	s.put("a")
	for _, tc := range []struct {
		path string
		mode fs.FileMode
	}{
		{s.dir, fs.ModeDir | 0o700},
		{filepath.Join(s.dir, lockName), 0o600},
		{filepath.Join(s.dir, fileName(1)), 0o600},
	} {
		if info, err := os.Lstat(tc.path); err != nil || info.Mode() != tc.mode {
			t.Errorf("%s: %v, %v, want %v", tc.path, info.Mode(), err, tc.mode)
		}
	}
}

func TestFullSpoolLosesTheOldest(t *testing.T) {
	cfg := roomy(newDir(t))
	cfg.Limit, cfg.FileSpans = 8*block, 1
	s := opened(t, cfg)
	for i := range 8 {
		s.put(fmt.Sprint(i))
	}
	s.want(Change{Stored: 8})
	taken := s.Next(0) // what is being delivered stays
	s.put("8")
	s.put("9")
	s.want(Change{Stored: 10, Dropped: 2})
	if used := onDisk(t, cfg.Dir); used > cfg.Limit || used != s.Status().Bytes {
		t.Errorf("%d bytes on disk, status says %d of %d", used, s.Status().Bytes, cfg.Limit)
	}
	s.Release(taken, false)
	if got := s.drain(); !slices.Equal(got, []string{"0", "3", "4", "5", "6", "7", "8", "9"}) {
		t.Errorf("got %q", got)
	}
	if err := s.Put(1, make([]byte, cfg.Limit)); err == nil || !strings.Contains(err.Error(), "clntrace-spool-size") {
		t.Errorf("a batch as large as the spool: %v", err)
	}
}

func TestLimitHoldsWhateverIsPut(t *testing.T) {
	cfg := roomy(newDir(t))
	cfg.Limit = 1 << 20
	s := opened(t, cfg)
	for i := range 400 {
		if err := s.Put(1, make([]byte, i*i)); err != nil {
			t.Fatal(err)
		}
		if used := onDisk(t, cfg.Dir); used > cfg.Limit {
			t.Fatalf("%d bytes on disk after %d batches, limit %d", used, i+1, cfg.Limit)
		}
	}
	if used := s.Status().Bytes; used < cfg.Limit/2 {
		t.Errorf("only %d bytes are used of %d", used, cfg.Limit)
	}
}

func TestLimitThatWasLowered(t *testing.T) {
	cfg := roomy(newDir(t))
	cfg.FileSpans = 1
	first := opened(t, cfg)
	for i := range 10 {
		first.put(fmt.Sprint(i))
	}
	first.Close()
	cfg.Limit = 3 * block
	second := opened(t, cfg)
	second.want(Change{Found: 10, Dropped: 7})
	if got := second.drain(); !slices.Equal(got, []string{"7", "8", "9"}) {
		t.Errorf("got %q", got)
	}
}

func TestDirectoryOfAnother(t *testing.T) {
	cfg := roomy(newDir(t))
	first, second := opened(t, cfg), newSpool(t, cfg)
	if err := second.Put(1, []byte("x")); !errors.Is(err, errInUse) || !strings.Contains(err.Error(), cfg.Dir) {
		t.Errorf("got %v, want %v", err, errInUse)
	}
	if problem := second.Status().Problem; !errors.Is(problem, errInUse) {
		t.Errorf("the status says %v", problem)
	}
	_ = second.Open()
	if n := second.logged("another clntrace"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	first.put("a")
	first.Close()
	second.put("b")
	for second.LookInto() {
	}
	second.want(Change{Stored: 1, Found: 1})
	if problem := second.Status().Problem; problem != nil || second.logged("can be used again") != 1 {
		t.Errorf("the status says %v; log: %s", problem, second.log.String())
	}
}

func TestDirectoriesThatAreNotUsed(t *testing.T) {
	for _, tc := range []struct {
		what    string
		prepare func(dir string) error
		want    string
	}{
		{"link", func(dir string) error {
			return errors.Join(os.Mkdir(dir+"-real", 0o700), os.Symlink(dir+"-real", dir))
		}, "symbolic link"},
		{"link to nowhere", func(dir string) error { return os.Symlink(dir+"-real", dir) }, "symbolic link"},
		{"file", func(dir string) error { return os.WriteFile(dir, []byte("x"), 0o600) }, "not a directory"},
		{"others may write", func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)) }, "chmod 700"},
		{"another's", func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 12345, 12345)) }, "belongs to user 12345"},
		{"in a directory that is not there", func(dir string) error { return os.Remove(filepath.Dir(dir)) }, "no such file"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			dir := newDir(t)
			if err := tc.prepare(dir); errors.Is(err, fs.ErrPermission) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			s := newSpool(t, roomy(dir))
			err := s.Put(1, []byte("x"))
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if list, _ := os.ReadDir(dir); len(list) > 0 {
				t.Errorf("wrote %v", list)
			}
			s.want(Change{})
		})
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	cfg := roomy(newDir(t))
	outside := filepath.Join(t.TempDir(), "outside")
	at := func(name string) string { return filepath.Join(cfg.Dir, name) }
	err := errors.Join(
		os.WriteFile(outside, []byte("precious"), 0o600),
		os.Mkdir(cfg.Dir, 0o700),
		os.WriteFile(at("README"), []byte("precious"), 0o600),
		os.WriteFile(at("1.spans"), []byte("precious"), 0o600),
		os.WriteFile(at("000000000000000G.spans"), []byte("precious"), 0o600),
		os.Mkdir(at(fileName(3)), 0o700),
		unix.Mkfifo(at(fileName(4)), 0o600),
		os.Symlink(outside, at(fileName(5))),
		os.Symlink(outside, at(fileName(6)+damagedSuffix)),
	)
	if err != nil {
		t.Fatal(err)
	}
	before := entries(t, cfg.Dir)
	cfg.Limit, cfg.FileSpans = 2*block, 1
	s := opened(t, cfg)
	for i := range 9 { // over the names that are taken, and the limit
		if err := s.Put(1, []byte(fmt.Sprint(i))); err != nil {
			t.Logf("put %d: %v", i, err)
		}
	}
	if got := s.drain(); len(got) == 0 || !strings.Contains("012345678", strings.Join(got, "")) {
		t.Errorf("got %q", got)
	}
	if after := entries(t, cfg.Dir); !slices.Equal(after, before) {
		t.Errorf("there were %q, there are %q", before, after)
	}
	if b, err := os.ReadFile(outside); string(b) != "precious" {
		t.Errorf("outside is %q, %v", b, err)
	}
}

func TestDirectoryThatIsRemovedWhileInUse(t *testing.T) {
	s := opened(t, roomy(newDir(t)))
	s.put("a")
	taken := s.Next(0)
	s.put("b")
	s.put("c")
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	s.put("d")
	s.want(Change{Stored: 4, Dropped: 2})
	s.Done(taken) // it was in memory
	if got := s.drain(); !slices.Equal(got, []string{"d"}) {
		t.Errorf("got %q", got)
	}
	if s.logged("was removed by somebody else") != 1 {
		t.Errorf("log: %s", s.log.String())
	}
}

func TestBatchOfADirectoryThatIsGone(t *testing.T) {
	s := opened(t, roomy(newDir(t)))
	s.put("a")
	taken := s.Next(0)
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	s.put("b")
	s.Release(taken, false) // not delivered, and nowhere to put it back
	s.want(Change{Stored: 2, Dropped: 1})
	if got := s.drain(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %q", got)
	}
}

func TestFilesThatChangeWhileInUse(t *testing.T) {
	cfg := roomy(newDir(t))
	cfg.FileSpans = 2
	s := opened(t, cfg)
	for _, body := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		s.put(body)
	}
	at := func(n uint64) string { return filepath.Join(cfg.Dir, fileName(n)) }
	err := errors.Join(os.Remove(at(1)), os.Truncate(at(2), headerSize+1+3), os.Truncate(at(3), 0),
		os.WriteFile(at(4), []byte("garbage"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	s.put("h") // not behind the garbage
	if got := s.drain(); !slices.Equal(got, []string{"c", "h"}) {
		t.Errorf("got %q", got)
	}
	s.want(Change{Stored: 8, Dropped: 6})
	if s.logged("WARN") != 4 || s.Status().Damaged != 2 {
		t.Errorf("%d set aside, log: %s", s.Status().Damaged, s.log.String())
	}
}

func TestDamagedFilesAreBounded(t *testing.T) {
	cfg := roomy(newDir(t))
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3 * maxDamaged) {
		if err := os.WriteFile(filepath.Join(cfg.Dir, fileName(i)), []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := opened(t, cfg)
	if got := s.drain(); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	if n := len(entries(t, cfg.Dir)); n != maxDamaged || s.Status().Damaged != n {
		t.Errorf("%d files are set aside, the status says %d", n, s.Status().Damaged)
	}
	s.put("a")
	if got := s.drain(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q", got)
	}
}

func TestHugeFileIsNotRead(t *testing.T) {
	cfg := roomy(newDir(t))
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.Dir, fileName(1))
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)); err != nil {
		t.Fatal(err)
	}
	s := opened(t, cfg)
	s.put("a") // the limit is exceeded by what was set aside, which goes
	if got := s.drain(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q", got)
	}
	if left := entries(t, cfg.Dir); len(left) != 0 {
		t.Errorf("left %q", left)
	}
}

func TestSpoiledBatchIsSetAside(t *testing.T) {
	s := opened(t, roomy(newDir(t)))
	s.put("a")
	s.Spoil(s.Next(0), errors.New("not a request"))
	s.want(Change{Stored: 1, Dropped: 1})
	if b := s.Next(0); b != nil || s.logged("not a request") != 1 {
		t.Errorf("got %v, log: %s", b, s.log.String())
	}
	if got := entries(t, s.dir); !slices.Equal(got, []string{fileName(1) + damagedSuffix}) {
		t.Errorf("left %q", got)
	}
}

// Of a batch that was delivered in part the rest stays, in its place, for the next run
// too.
func TestShrunkBatch(t *testing.T) {
	dir := newDir(t)
	s := newSpool(t, roomy(dir))
	if err := s.Put(5, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	b := s.Next(0)
	s.put("next")
	s.Shrink(b, 2, []byte("rest"))
	s.Release(b, true)
	again := s.Next(0)
	if again.Spans != 2 || string(again.Body) != "rest" || again.Attempts != 1 {
		t.Errorf("got %+v", again)
	}
	s.Release(again, false)
	s.want(Change{Stored: 6})
	s.Close()
	next := opened(t, roomy(dir))
	next.want(Change{Found: 3})
	if got := next.drain(); !slices.Equal(got, []string{"rest", "next"}) {
		t.Errorf("got %q", got)
	}
}

// If the rest cannot be written all of the batch will be sent again, and counts again.
func TestBatchThatCannotBeShrunk(t *testing.T) {
	dir := newDir(t)
	s := newSpool(t, roomy(dir))
	if err := s.Put(5, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	b := s.Next(0)
	if err := os.Mkdir(filepath.Join(dir, b.file.name()+tempSuffix), 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	s.Shrink(b, 2, []byte("rest"))
	s.Release(b, false)
	s.want(Change{Stored: 5, Found: 3})
	if again := s.Next(0); again.Spans != 5 || string(again.Body) != "whole" {
		t.Errorf("got %+v", again)
	}
}

func TestConcurrentUse(t *testing.T) {
	cfg := roomy(newDir(t))
	cfg.Limit, cfg.FileSpans = 100*block, 7
	s := opened(t, cfg)
	const writers, each = 4, 100
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				if err := s.Put(1, fmt.Appendf(nil, "%d-%d ", w, i)); err != nil {
					t.Error(err)
				}
				_ = s.Status()
			}
		})
	}
	stored := make(chan struct{})
	go func() { all.Wait(); close(stored) }()
	var got []string
	for open := true; open; {
		select {
		case <-stored:
			open = false
		case <-s.Ready():
		}
		for i, body := range s.drain() {
			got = append(got, strings.Fields(body)...)
			if i%3 == 0 {
				continue
			}
		}
	}
	slices.Sort(got)
	if n := len(slices.Compact(got)); n != writers*each {
		t.Errorf("%d batches of %d", n, writers*each)
	}
	s.want(Change{Stored: writers * each})
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{400, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := opened(b, roomy(newDir(b)))
			body := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Put(1, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
