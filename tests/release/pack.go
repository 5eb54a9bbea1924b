package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const sumsFile = "SHA256SUMS"

// packed is a file for an archive, from path or from text.
type packed struct {
	name string
	path string
	text string
	mode int64 // 0: 0644
}

// pack writes files into the gzipped tar archive at target, below the directory dir.
// The archive does not depend on this machine: names are sorted, owner and times
// are fixed.
func pack(target, dir string, modified time.Time, files []packed) error {
	var archive bytes.Buffer
	compressed, err := gzip.NewWriterLevel(&archive, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(compressed)
	files = slices.SortedFunc(slices.Values(files), func(a, b packed) int { return cmp.Compare(a.name, b.name) })
	for _, f := range files {
		body := []byte(f.text)
		if f.path != "" {
			if body, err = os.ReadFile(f.path); err != nil {
				return err
			}
		}
		if err := w.WriteHeader(&tar.Header{
			Name: path.Join(dir, f.name), Size: int64(len(body)), Mode: cmp.Or(f.mode, 0o644),
			ModTime: modified, Format: tar.FormatUSTAR,
		}); err != nil {
			return err
		}
		if _, err := w.Write(body); err != nil {
			return err
		}
	}
	if err := errors.Join(w.Close(), compressed.Close()); err != nil {
		return err
	}
	return os.WriteFile(target, archive.Bytes(), 0o644)
}

// writeSums writes the SHA-256 sums of dir's files, as sha256sum -c reads them.
func writeSums(dir string) error {
	names, err := list(dir)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, name := range names {
		body, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(body), name)
	}
	return os.WriteFile(filepath.Join(dir, sumsFile), []byte(sums.String()), 0o644)
}

// compare returns an error that names every file that is not the same in two
// directories.
func compare(a, b string) error {
	left, err := list(a)
	if err != nil {
		return err
	}
	right, err := list(b)
	if err != nil {
		return err
	}
	if !slices.Equal(left, right) {
		return fmt.Errorf("not reproducible: one build made %q, the other %q", left, right)
	}
	differ := []string{}
	for _, name := range left {
		one, err := os.ReadFile(filepath.Join(a, name))
		if err != nil {
			return err
		}
		other, err := os.ReadFile(filepath.Join(b, name))
		if err != nil {
			return err
		}
		if !bytes.Equal(one, other) {
			differ = append(differ, name)
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("not reproducible: the two builds differ in %s", strings.Join(differ, ", "))
	}
	return nil
}

// replace replaces the contents of dist by the files of made.
func replace(dist, made string) error {
	if err := os.RemoveAll(dist); err != nil {
		return err
	}
	return os.CopyFS(dist, os.DirFS(made))
}

// list is the sorted names in a directory.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}
