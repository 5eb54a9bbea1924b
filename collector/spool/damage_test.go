package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var bodies = []string{"first", "", "third, and longer than the others", "fourth"}

// someRecords is a file as it is after bodies were put.
func someRecords() (data []byte, ends []int) {
	for _, body := range bodies {
		data = appendRecord(data, 1, []byte(body))
		ends = append(ends, len(data))
	}
	return data, ends
}

// A kill can end a write after any byte. What was written before is whole.
func TestKillAtEveryByteOfAPut(t *testing.T) {
	data, ends := someRecords()
	for n := range len(data) + 1 {
		whole := 0
		for _, end := range ends {
			if end <= n {
				whole++
			}
		}
		cfg := roomy(newDir(t))
		if err := errors.Join(os.Mkdir(cfg.Dir, 0o700), os.WriteFile(filepath.Join(cfg.Dir, fileName(7)), data[:n], 0o600)); err != nil {
			t.Fatal(err)
		}
		for run := range 2 { // the second finds what the first has mended
			s := opened(t, cfg)
			s.want(Change{Found: int64(whole)})
			if damaged := run == 0 && (n == 0 || whole == 0 || ends[whole-1] != n); (s.logged("damaged") > 0) != damaged {
				t.Fatalf("cut at %d, run %d: log %q", n, run, s.log.String())
			}
			s.Close()
		}
		s := opened(t, cfg)
		s.put("new")
		want := []string{"new"}
		if whole > 0 {
			want = []string{strings.Join(bodies[:whole], ""), "new"}
		}
		if got := s.drain(); !slices.Equal(got, want) {
			t.Fatalf("cut at %d: got %q, want %q", n, got, want)
		}
		s.Close()
	}
}

func TestDamageOfEveryByteCostsOneRecord(t *testing.T) {
	data, ends := someRecords()
	for n := range data {
		hit := 0
		for ends[hit] <= n {
			hit++
		}
		damaged := bytes.Clone(data)
		damaged[n] ^= 0x40
		c := scan(damaged)
		var got []string
		for _, r := range c.records {
			got = append(got, string(r.body))
		}
		want := slices.Delete(slices.Clone(bodies), hit, hit+1)
		size := ends[0]
		if hit > 0 {
			size = ends[hit] - ends[hit-1]
		}
		if !slices.Equal(got, want) || c.damaged != size || c.lost > 1 {
			t.Errorf("byte %d: got %q, %d bytes damaged and %d spans lost, want %q and %d", n, got, c.damaged, c.lost, want, size)
		}
	}
}

// recordOf is a record of any version, whose body has the wrong checksum on demand.
func recordOf(version byte, spans int64, damaged bool) []byte {
	b := appendRecord(nil, spans, []byte("body"))
	b[len(magic)] = version
	if damaged {
		b[12]++
	}
	binary.LittleEndian.PutUint32(b[16:], crc32.Checksum(b[:16], castagnoli))
	return b
}

// What is in the spool and cannot be sent is counted: what another version of clntrace
// has written, and what is damaged. It stays for whoever looks, and counts once.
func TestWhatIsOfNoUseIsCounted(t *testing.T) {
	ours, theirs, damaged := recordOf(version, 3, false), recordOf(version+1, 5, false), recordOf(version, 7, true)
	for _, tc := range []struct {
		what string
		data []byte
		want Change
		log  string
	}{
		{"of another version", theirs, Change{Found: 5, Dropped: 5}, "is of another version of clntrace: 5 spans in it are lost; it was set aside"},
		{"of both", slices.Concat(theirs, ours), Change{Found: 8, Dropped: 5}, "is of another version of clntrace: 3 spans in it are whole"},
		{"damaged", damaged, Change{Found: 7, Dropped: 7}, "is damaged: 7 spans in it are lost"},
		{"cut", theirs[:len(theirs)-1], Change{}, "is damaged: nothing in it is whole"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			cfg := roomy(newDir(t))
			name := filepath.Join(cfg.Dir, fileName(1))
			if err := errors.Join(os.Mkdir(cfg.Dir, 0o700), os.WriteFile(name, tc.data, 0o600)); err != nil {
				t.Fatal(err)
			}
			s := opened(t, cfg)
			s.drain()
			s.want(tc.want)
			if s.logged(tc.log) != 1 {
				t.Errorf("log %q, want %q", s.log.String(), tc.log)
			}
			if b, err := os.ReadFile(name + damagedSuffix); !bytes.Equal(b, tc.data) {
				t.Errorf("what was set aside is not what was there: %v", err)
			}
			s.Close()
			opened(t, cfg).want(Change{})
		})
	}
}

// If the repair fails, what is of no use still counts once.
func TestRepairThatFails(t *testing.T) {
	cfg := roomy(newDir(t))
	name := filepath.Join(cfg.Dir, fileName(1))
	data := slices.Concat(recordOf(version, 3, false), recordOf(version+1, 5, false))
	if err := errors.Join(os.Mkdir(cfg.Dir, 0o700), os.WriteFile(name, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	s := newSpool(t, cfg)
	if err := errors.Join(s.Open(), os.Mkdir(name+tempSuffix, 0o700)); err != nil { // in the way
		t.Fatal(err)
	}
	s.LookInto()
	for range 3 {
		s.Release(s.Next(0), true)
	}
	s.want(Change{Found: 8, Dropped: 5})
}

// A repair can be killed between any two of its steps.
func TestRepairThatWasKilled(t *testing.T) {
	data, _ := someRecords()
	cut := data[:len(data)-1]
	for step := range 4 {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			cfg := roomy(newDir(t))
			name := filepath.Join(cfg.Dir, fileName(1))
			err := errors.Join(os.Mkdir(cfg.Dir, 0o700), os.WriteFile(name, cut, 0o600))
			if step >= 1 { // while the whole part was written
				err = errors.Join(err, os.WriteFile(name+tempSuffix, cut[:10], 0o600))
			}
			if step >= 2 {
				err = errors.Join(err, os.Link(name, name+damagedSuffix))
			}
			if step >= 3 {
				err = errors.Join(err, os.WriteFile(name+tempSuffix, cut, 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			s := opened(t, cfg)
			want := strings.Join(bodies[:3], "")
			if got := s.drain(); !slices.Equal(got, []string{want}) {
				t.Errorf("got %q", got)
			}
			if left := entries(t, cfg.Dir); !slices.Equal(left, []string{fileName(1) + damagedSuffix}) {
				t.Errorf("left %q", left)
			}
			if b, err := os.ReadFile(name + damagedSuffix); !bytes.Equal(b, cut) {
				t.Errorf("what was set aside is not what was there: %v", err)
			}
		})
	}
}

func FuzzScan(f *testing.F) {
	data, _ := someRecords()
	f.Add(data)
	f.Add(bytes.Repeat(magic, 100))
	f.Add(append(data[:30:30], data...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := scan(bytes.Clone(b))
		n := c.damaged
		for _, r := range c.records {
			n += len(r.whole)
			if again := scan(r.whole); len(again.records) != 1 || again.damaged != 0 {
				t.Errorf("a record is not one")
			}
		}
		if n != len(b) {
			t.Errorf("%d bytes are accounted for of %d", n, len(b))
		}
	})
}

func BenchmarkScanHostile(b *testing.B) {
	data := bytes.Repeat(magic, maxFileBytes/len(magic))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		scan(data)
	}
}
