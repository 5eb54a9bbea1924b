package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"clntrace/collector/text"
)

// Batch is a part of the spool that is delivered in one request.
type Batch struct {
	Spans    int64
	Body     []byte // a serialized export request
	Attempts int    // to deliver it, as counted by Release
	file     *file
}

// LookInto counts the spans of one file that an earlier run has left, and reports
// whether there are more such files. Next returns the batch only after that.
func (s *Spool) LookInto() (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == nil || len(s.found) == 0 {
		return false
	}
	s.lookInto()
	if len(s.found) == 0 {
		// The limit may have been lowered. What cannot be removed now will be tried
		// again by the next Put.
		_ = s.makeRoom(0, nil)
	}
	s.publish()
	s.wake()
	return len(s.found) > 0
}

func (s *Spool) lookInto() {
	f := s.found[0]
	s.found = s.found[1:]
	// It is older than everything that has been stored since.
	at := slices.IndexFunc(s.files, func(other *file) bool { return other.number > f.number })
	if at < 0 {
		at = len(s.files)
	}
	s.files = slices.Insert(s.files, at, f)
	s.read(f)
}

// Next takes the batch at that place in the queue, where 0 is the oldest, or the
// last one if there are not so many. It returns nil if there is none, or if another
// batch is taken: only one can be, until Done, Spoil, Release or Postpone.
func (s *Spool) Next(place int) *Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.dir != nil && s.taken == nil && len(s.files) > 0 {
		f := s.files[min(place, len(s.files)-1)]
		f.sealed = true
		records := s.read(f)
		s.publish()
		if len(records) > 0 {
			s.taken = f
			return &Batch{Spans: f.spans, Body: join(records), Attempts: f.attempts, file: f}
		}
	}
	return nil
}

// join concatenates the bodies, which makes them one request.
func join(records []record) []byte {
	if len(records) == 1 {
		return records[0].body
	}
	size := 0
	for _, r := range records {
		size += len(r.body)
	}
	b := make([]byte, 0, size)
	for _, r := range records {
		b = append(b, r.body...)
	}
	return b
}

// read returns the whole records of a file. If they are not what the file should
// contain, it repairs the file and corrects the counts. A file without any whole
// record leaves the queue.
func (s *Spool) read(f *file) []record {
	data, err := s.dir.read(f.name())
	var c contents
	if err == nil {
		f.size = int64(len(data))
		c = scan(data)
	}
	before := f.spans
	s.recount(f, c)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.drop(f)
		s.log.Warn(fmt.Sprintf("the spool file %s in %s was removed by somebody else, with %s", f.name(), s.cfg.Dir, text.Number(before, "span", "spans")))
	case len(c.records) == 0:
		s.setAside(f, c, err)
	case c.damaged > 0:
		s.mend(f, c)
	}
	return c.records
}

// recount makes the counts those of what is in a file.
func (s *Spool) recount(f *file, c contents) {
	var whole int64
	for _, r := range c.records {
		whole += r.spans
	}
	lost := max(c.lost-f.lost, 0)
	before := f.spans
	f.spans, f.lost = whole, c.lost
	if found := max(whole+lost-before, 0); found > 0 || whole != before {
		s.count(Change{Found: found, Dropped: before + found - whole})
	}
}

// drop takes a file out of the queue, and reports whether it was there.
func (s *Spool) drop(f *file) bool {
	at := slices.Index(s.files, f)
	if at >= 0 {
		s.files = slices.Delete(s.files, at, at+1)
	}
	return at >= 0
}

// setAside takes a file in which nothing is of use out of the queue.
func (s *Spool) setAside(f *file, c contents, err error) {
	s.drop(f)
	what := "nothing in it is whole"
	if err != nil {
		what = err.Error()
	}
	if c.lost > 0 {
		what = text.Number(c.lost, "span in it is", "spans in it are") + " lost"
	}
	if f.size == 0 {
		err = s.dir.remove(f.name())
		what += "; it was removed"
	} else if err = s.dir.setAside(f.name()); err == nil {
		s.addDamaged(&file{number: f.number, size: f.size})
		what += "; it was set aside as " + f.name() + damagedSuffix
	}
	if err != nil {
		what += fmt.Sprintf("; it could not be set aside: %v", err)
	}
	s.log.Warn(fmt.Sprintf("the spool file %s in %s is %s: %s", f.name(), s.cfg.Dir, c.fault(), what))
}

// fault says why a file, or a part of it, is of no use.
func (c contents) fault() string {
	if c.foreign {
		return "of another version of clntrace"
	}
	return "damaged"
}

// mend sets the whole file aside, and leaves in its place only what is whole.
func (s *Spool) mend(f *file, c contents) {
	var b []byte
	for _, r := range c.records {
		b = append(b, r.whole...)
	}
	what := "set aside as " + f.name() + damagedSuffix
	if err := s.dir.replace(f.name(), b); err != nil {
		// It is removed with the file, when the whole records have been delivered.
		what = fmt.Sprintf("lost, it could not be set aside: %v", err)
	} else {
		s.addDamaged(&file{number: f.number, size: f.size})
		f.size = int64(len(b))
	}
	s.log.Warn(fmt.Sprintf("the spool file %s in %s is %s: %s whole and will be sent, %s not: %s",
		f.name(), s.cfg.Dir, c.fault(), text.Number(f.spans, "span in it is", "spans in it are"), text.Number(c.damaged, "byte is", "bytes are"), what))
}

func (s *Spool) addDamaged(f *file) {
	s.damaged = append(s.damaged, f)
	for len(s.damaged) > maxDamaged {
		if s.forgetDamaged() != nil {
			return // it still counts, and goes when there is no room
		}
	}
}

// Done removes a batch that was delivered.
func (s *Spool) Done(b *Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = nil
	if s.drop(b.file) && s.dir != nil {
		if err := s.dir.remove(b.file.name()); err != nil {
			s.log.Warn(fmt.Sprintf("%v; the next run will send %s again", explain(s.cfg.Dir, err, s.cfg.Voice), text.Number(b.Spans, "span", "spans")))
		} else {
			_ = s.report(nil) // if the spool was full, it no longer is
		}
	}
	s.publish()
}

// Shrink replaces a batch by what is left of it: a serialized export request of that
// many spans. If that cannot be written the whole batch stays on disk, and what was
// delivered of it counts as found, for it will be sent again.
func (s *Spool) Shrink(b *Batch, spans int64, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := b.file
	if s.dir != nil && slices.Contains(s.files, f) {
		left := appendRecord(make([]byte, 0, headerSize+len(body)), spans, body)
		if err := s.dir.overwrite(f.name(), left); err != nil {
			s.count(Change{Found: b.Spans - spans})
			s.log.Warn(fmt.Sprintf("%v; %s will be sent again", explain(s.cfg.Dir, err, s.cfg.Voice), text.Number(b.Spans-spans, "span", "spans")))
			return
		}
		f.spans, f.size = spans, int64(len(left))
	}
	b.Spans, b.Body = spans, body
	s.publish()
}

// Spoil takes a batch that cannot be decoded out of the queue, and sets its file
// aside.
func (s *Spool) Spoil(b *Batch, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = nil
	s.count(Change{Dropped: b.Spans})
	if s.dir != nil && slices.Contains(s.files, b.file) {
		s.setAside(b.file, contents{}, reason)
	}
	s.publish()
}

// Release puts a batch that was not delivered back into its place. attempted adds
// one to its Attempts.
func (s *Spool) Release(b *Batch, attempted bool) {
	if attempted {
		b.file.attempts++ // unlocked: only whoever has taken it reads this
	}
	s.putBack(b, false)
}

// Postpone puts a batch that was not delivered behind all others.
func (s *Spool) Postpone(b *Batch) { s.putBack(b, true) }

func (s *Spool) putBack(b *Batch, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = nil
	switch {
	case !slices.Contains(s.files, b.file): // the directory was removed meanwhile
		s.count(Change{Dropped: b.Spans})
	case last:
		s.drop(b.file)
		s.files = append(s.files, b.file)
	}
}
