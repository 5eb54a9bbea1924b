package spool

import (
	"bytes"
	"errors"
	"fmt"
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
		records, lost := scan(damaged)
		var got []string
		for _, r := range records {
			got = append(got, string(r.body))
		}
		want := slices.Delete(slices.Clone(bodies), hit, hit+1)
		size := ends[0]
		if hit > 0 {
			size = ends[hit] - ends[hit-1]
		}
		if !slices.Equal(got, want) || lost != size {
			t.Errorf("byte %d: got %q and %d bytes damaged, want %q and %d", n, got, lost, want, size)
		}
	}
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
		records, damaged := scan(bytes.Clone(b))
		n := damaged
		for _, r := range records {
			n += len(r.whole)
			if again, rest := scan(r.whole); len(again) != 1 || rest != 0 {
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
