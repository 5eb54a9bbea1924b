package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"clntrace/collector/text"
	"clntrace/collector/voice"
)

const (
	// maxFileBytes bounds the files that are read. Those that we write are much
	// smaller: requests are kept below the 4 MiB that gRPC servers accept.
	maxFileBytes = 8 << 20
	// maxDamaged bounds the files set aside. A few are enough to find out what
	// happened, and nobody may ever look.
	maxDamaged = 8
	// block is what the smallest file takes on a usual file system, in bytes.
	block = 4096
	// syncDelay bounds what a power cut costs besides what is in memory: the spans
	// spooled within this time.
	syncDelay = time.Second
)

// Config says where the spool is and how large it may be.
type Config struct {
	Dir   string
	Limit int64 // bytes on disk at most
	// FileSpans and FileBytes bound a request: batches are combined up to these.
	FileSpans int64
	FileBytes int64
	Voice     voice.Voice // names options in what goes wrong
}

// Change says what has become of spans, so that they can be counted.
type Change struct {
	Stored  int64 // put into the spool
	Found   int64 // left there by an earlier run
	Dropped int64 // lost: the oldest if it was full, or what others removed, damaged, or wrote in another format
}

// Status is the state of a Spool.
type Status struct {
	Dir          string
	Bytes, Limit int64 // on disk, including what was set aside
	Damaged      int   // files set aside
	// Problem says why nothing can be spooled, and what to do; nil: it can.
	Problem error
}

// file is one file of the spool.
type file struct {
	number   uint64
	size     int64 // bytes
	spans    int64
	lost     int64 // spans in it that are of no use, and counted as dropped
	attempts int   // to deliver it, in vain
	sealed   bool  // nothing may be appended
}

func (f *file) name() string { return fileName(f.number) }

// disk is how much of the limit f takes, in bytes.
func (f *file) disk() int64 { return blocks(f.size) }

func blocks(size int64) int64 { return (size + block - 1) / block * block }

// Spool is a queue of batches in a directory. It is safe for concurrent use, but
// only one batch can be taken at a time. After an error it tries again each time
// it is asked.
type Spool struct {
	cfg    Config
	log    *slog.Logger
	count  func(Change)
	ready  chan struct{} // a token: there may be something new to take
	status atomic.Pointer[Status]

	mu       sync.Mutex
	dir      *directory // nil: not open
	closed   bool
	found    []*file // left by an earlier run, not yet looked into
	files    []*file // the queue, oldest first
	damaged  []*file // oldest first
	taken    *file   // by Next; must not be dropped
	next     uint64  // number of the next file
	problem  error
	unsynced []string    // names of files
	syncer   *time.Timer // nil: no sync is due
	syncing  sync.WaitGroup
}

// New returns a Spool that is not open yet. count is called with each change, before
// anybody else can see it, and must not call the Spool.
func New(cfg Config, log *slog.Logger, count func(Change)) *Spool {
	cfg.Dir = absolute(cfg.Dir)
	// Even in a small spool there are several files, of which the oldest can go.
	cfg.FileBytes = min(cfg.FileBytes, cfg.Limit/4, maxFileBytes)
	s := &Spool{cfg: cfg, log: log, count: count, ready: make(chan struct{}, 1)}
	s.publish()
	return s
}

// Open opens the directory if it is not open, as Put does too.
func (s *Spool) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir != nil {
		return nil // which does not mean that it can be written, so report nothing
	}
	return s.report(s.open())
}

func (s *Spool) open() error {
	if s.closed {
		return fs.ErrClosed
	}
	if s.dir != nil {
		return nil
	}
	dir, err := openDirectory(s.cfg.Dir, s.cfg.Voice)
	if err != nil {
		return explain(s.cfg.Dir, err, s.cfg.Voice)
	}
	list, err := dir.list()
	if err != nil {
		dir.close()
		return explain(s.cfg.Dir, err, s.cfg.Voice)
	}
	s.dir, s.found, s.damaged = dir, list.files, list.damaged
	s.next = max(s.next, list.next)
	s.wake()
	return nil
}

// Exists reports whether there is anything where the directory should be, perhaps with
// batches of an earlier run.
func (s *Spool) Exists() bool {
	_, err := os.Lstat(s.cfg.Dir)
	return err == nil
}

// Ready delivers a token when there may be something new to take.
func (s *Spool) Ready() <-chan struct{} { return s.ready }

func (s *Spool) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Status returns the state. It never waits for the disk.
func (s *Spool) Status() Status { return *s.status.Load() }

func (s *Spool) publish() {
	s.status.Store(&Status{Dir: s.cfg.Dir, Bytes: s.used(), Limit: s.cfg.Limit, Damaged: len(s.damaged), Problem: s.problem})
}

func (s *Spool) used() (n int64) {
	for _, list := range [][]*file{s.found, s.files, s.damaged} {
		for _, f := range list {
			n += f.disk()
		}
	}
	return n
}

// report makes err the state of the spool, and logs it if it is new.
func (s *Spool) report(err error) error {
	before := s.problem
	s.problem = err
	s.publish()
	switch {
	case s.closed:
	case err == nil && before != nil:
		s.log.Warn(fmt.Sprintf("the spool directory %s can be used again", s.cfg.Dir))
	case err != nil && (before == nil || before.Error() != err.Error()):
		s.log.Warn(fmt.Sprintf("%v; meanwhile spans wait in memory only", err))
	}
	return err
}

// Put stores a batch: a serialized export request of that many spans. If there is no
// room older batches are dropped. An error means that the batch is not stored.
func (s *Spool) Put(spans int64, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.report(s.put(spans, body)); err != nil {
		return err
	}
	s.count(Change{Stored: spans})
	s.wake()
	return nil
}

func (s *Spool) put(spans int64, body []byte) error {
	b := appendRecord(make([]byte, 0, headerSize+len(body)), spans, body)
	if size := int64(len(b)); blocks(size) > s.cfg.Limit || size > maxFileBytes || spans > math.MaxUint32 {
		return fmt.Errorf("a batch of %s (%d bytes) does not fit into the spool of %d bytes; raise %s", text.Number(spans, "span", "spans"), size, s.cfg.Limit, s.cfg.Voice.Option(sizeOption))
	}
	if err := s.open(); err != nil {
		return err
	}
	err := s.write(spans, b)
	if errors.Is(err, fs.ErrNotExist) { // the file or the directory was removed
		if s.dir.gone(s.cfg.Dir) {
			s.abandon()
		}
		if err := s.open(); err != nil {
			return err
		}
		err = s.write(spans, b)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return explain(s.cfg.Dir, fmt.Errorf("%w; free some space or set %s", text.Cause(err), s.cfg.Voice.Option(dirOption)), s.cfg.Voice)
	}
	if err != nil {
		return explain(s.cfg.Dir, err, s.cfg.Voice)
	}
	return nil
}

// write appends a record to the newest file, or to a new one.
func (s *Spool) write(spans int64, b []byte) error {
	f, size := s.newest(), int64(len(b))
	if f == nil || f.sealed || f.spans+spans > s.cfg.FileSpans || f.size+size > s.cfg.FileBytes || !s.dir.hasSize(f.name(), f.size) {
		f = &file{number: s.next}
	}
	if err := s.makeRoom(blocks(f.size+size)-f.disk(), f); err != nil {
		return err
	}
	if err := s.dir.append(f.name(), f.size, b); err != nil {
		return err
	}
	if f.number == s.next {
		s.next++
		s.files = append(s.files, f)
	}
	f.size += size
	f.spans += spans
	s.syncLater(f.name())
	return nil
}

// newest is the file that was made last; nil if it is no longer in the queue.
func (s *Spool) newest() *file {
	if n := len(s.files); n > 0 && s.files[n-1].number == s.next-1 {
		return s.files[n-1]
	}
	return nil
}

// errNoRoom means that only what is being delivered is left.
var errNoRoom = errors.New("it is full")

// makeRoom removes files until that many bytes fit: damaged ones first, then the
// oldest, except keep and the one that is being delivered.
func (s *Spool) makeRoom(bytes int64, keep *file) error {
	for used := s.used(); used+bytes > s.cfg.Limit; used = s.used() {
		if len(s.damaged) > 0 {
			if err := s.forgetDamaged(); err != nil {
				return err
			}
			continue
		}
		for len(s.found) > 0 { // spans must be counted before they can be dropped
			s.lookInto()
		}
		at := slices.IndexFunc(s.files, func(f *file) bool { return f != s.taken && f != keep })
		if at < 0 {
			return fmt.Errorf("%w; raise %s", errNoRoom, s.cfg.Voice.Option(sizeOption))
		}
		f := s.files[at]
		if err := s.dir.remove(f.name()); err != nil {
			return err
		}
		s.files = slices.Delete(s.files, at, at+1)
		s.count(Change{Dropped: f.spans})
	}
	return nil
}

func (s *Spool) forgetDamaged() error {
	if err := s.dir.remove(s.damaged[0].name() + damagedSuffix); err != nil {
		return err
	}
	s.damaged = s.damaged[1:]
	return nil
}

// abandon gives up a directory that has been removed, and all that was in it except
// the batch that is being delivered.
func (s *Spool) abandon() {
	var lost int64
	for _, f := range s.files {
		if f != s.taken {
			lost += f.spans
		}
	}
	s.log.Warn(fmt.Sprintf("the spool directory %s was removed by somebody else, with %s", s.cfg.Dir, text.Number(lost, "span", "spans")))
	s.count(Change{Dropped: lost})
	s.dir.close()
	s.dir, s.found, s.files, s.damaged, s.unsynced = nil, nil, nil, nil, nil
}

// syncLater has the file written to the disk within syncDelay.
func (s *Spool) syncLater(name string) {
	if !slices.Contains(s.unsynced, name) {
		s.unsynced = append(s.unsynced, name)
	}
	if s.syncer == nil && !s.closed {
		s.syncing.Add(1)
		s.syncer = time.AfterFunc(syncDelay, func() {
			defer s.syncing.Done()
			s.sync()
		})
	}
}

// sync writes files to the disk, without holding the lock meanwhile.
func (s *Spool) sync() {
	s.mu.Lock()
	dir, names := s.dir, s.unsynced
	s.unsynced, s.syncer = nil, nil
	s.mu.Unlock()
	if dir == nil || len(names) == 0 {
		return
	}
	if err := dir.sync(names); err != nil {
		s.log.Warn(fmt.Sprintf("%v; what is spooled may not survive a power cut", explain(s.cfg.Dir, err, s.cfg.Voice)))
	}
}

// Close writes everything to the disk and releases the directory for others.
func (s *Spool) Close() {
	s.mu.Lock()
	s.closed = true
	if s.syncer != nil && s.syncer.Stop() {
		s.syncing.Done()
	}
	s.mu.Unlock()
	s.syncing.Wait()
	s.sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir != nil {
		s.dir.close()
		s.dir = nil
	}
}
