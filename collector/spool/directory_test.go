package spool

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

// Each reason why a directory cannot be used comes with what to do.
func TestUnusableDirectoryIsExplained(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil { //nolint:gosec // on purpose
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, dir, want string }{
		{"no parent", filepath.Join(dir, "no", "spool"), "there is no directory " + filepath.Join(dir, "no") + " to make it in"},
		{"a file", file, "it is not a directory; set clntrace-spool-dir to another path"},
		{"below a file", filepath.Join(file, "spool"), "what should hold it is a file (not a directory)"},
		{"a link", link, "symbolic link"},
		{"open to all", open, "run 'chmod 700'"},
		{"too long", filepath.Join(dir, strings.Repeat("x", 300)), "file name too long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := openDirectory(tc.dir, voice.Plugin)
			if err == nil {
				d.close()
				t.Fatal("it was opened")
			}
			checkExplained(t, explain(tc.dir, err, voice.Plugin), tc.dir, tc.want)
		})
	}
	// What root never meets.
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"may not make", &fs.PathError{Op: "mkdir", Path: "/d/spool", Err: unix.EACCES}, "may not make it in /d (permission denied); give it the right"},
		{"may not write", &fs.PathError{Op: "openat", Path: "lock", Err: unix.EACCES}, "may not write in it (permission denied); give it the right"},
		{"read-only", &fs.PathError{Op: "openat", Path: "lock", Err: unix.EROFS}, "may not write in it (read-only file system)"},
		{"broken disk", &fs.PathError{Op: "openat", Path: "lock", Err: unix.EIO}, "open: input/output error; see to the disk"},
	} {
		t.Run(tc.name, func(t *testing.T) { checkExplained(t, explain("/d/spool", tc.err, voice.Plugin), "/d/spool", tc.want) })
	}
}

func checkExplained(t *testing.T, err error, dir, want string) {
	t.Helper()
	for _, part := range []string{"the spool directory " + dir + " cannot be used: ", want, "set clntrace-spool-dir"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
}
