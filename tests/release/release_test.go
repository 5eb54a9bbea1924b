package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const changelog = "# Changelog\n\n## 0.2.0 (unreleased)\n\n- New.\n\n## 0.1.0 (2026-11-22)\n\n- First.\n"

// repository makes one with a commit, below a directory of its own.
func repository(t *testing.T) string {
	t.Helper()
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_SYSTEM": os.DevNull,
		"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@localhost", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@localhost",
	} {
		t.Setenv(name, value)
	}
	root := t.TempDir()
	write(t, root, "CHANGELOG.md", changelog)
	command(t, root, "init", "--quiet")
	command(t, root, "add", ".")
	command(t, root, "commit", "--quiet", "-m", "first")
	return root
}

func command(t *testing.T, root string, args ...string) string {
	t.Helper()
	out, err := git(t.Context(), root, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestInspect(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version string
		prepare func(t *testing.T, root string)
		want    string // the version, COMMIT being its first digits; empty: an error
		fault   string // part of the error
	}{
		{"no tag", "", nil, "0.2.0-dev+COMMIT", ""},
		{"the newest tag", "", func(t *testing.T, root string) {
			command(t, root, "tag", "v0.1.0-rc.1")
			command(t, root, "tag", "v0.1.0")
			command(t, root, "tag", "nightly")
		}, "0.1.0", ""},
		{"named, not yet a tag", "0.1.0", nil, "0.1.0", ""},
		{"before a release", "0.2.0-rc.1", nil, "0.2.0-rc.1", ""},
		{"unreleased", "0.2.0", nil, "", "calls 0.2.0 unreleased"},
		{"not in the changelog", "0.3.0", nil, "", "no section '## 0.3.0'"},
		{"tagged, not in the changelog", "", func(t *testing.T, root string) { command(t, root, "tag", "v1.0.0") }, "", "no section '## 1.0.0'"},
		{"with a v", "v0.1.0", nil, "", `"v0.1.0" is not semantic versioning`},
		{"two numbers", "0.1", nil, "", `"0.1" is not semantic versioning`},
		{"a leading zero", "0.01.0", nil, "", `"0.01.0" is not semantic versioning`},
		{"another commit's tag", "0.1.0", func(t *testing.T, root string) {
			command(t, root, "tag", "v0.1.0")
			command(t, root, "commit", "--quiet", "--allow-empty", "-m", "second")
		}, "", "v0.1.0 is the tag of commit"},
		{"a changed file", "0.1.0", func(t *testing.T, root string) { write(t, root, "CHANGELOG.md", "## 0.1.0\n") }, "", "M CHANGELOG.md"},
		{"a new file", "0.1.0", func(t *testing.T, root string) { write(t, root, "main.go", "") }, "", "?? main.go"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := repository(t)
			if tt.prepare != nil {
				tt.prepare(t, root)
			}
			got, err := inspect(t.Context(), root, tt.version)
			if tt.want == "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("got %+v and error %v, want one with %q", got, err, tt.fault)
				}
				return
			}
			commit := command(t, root, "rev-parse", "HEAD")
			want := strings.Replace(tt.want, "COMMIT", commit[:12], 1)
			if err != nil || got.Version != want || got.Commit != commit || time.Since(got.Time) > time.Hour {
				t.Errorf("got %+v and error %v, want version %s of %s", got, err, want, commit)
			}
		})
	}
}

func TestNoRepository(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := run(t.Context(), "", true); err == nil || !strings.Contains(err.Error(), "no git repository") {
		t.Errorf("got %v", err)
	}
}

func TestPack(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "binary", "machine code")
	if err := os.Chtimes(filepath.Join(dir, "binary"), time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	modified := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	target := filepath.Join(dir, "out.tar.gz")
	files := []packed{{name: "clntrace", path: filepath.Join(dir, "binary"), mode: 0o755}, {name: "A", text: "text"}}
	if err := pack(target, "top", modified, files); err != nil {
		t.Fatal(err)
	}
	first := read(t, target)
	slices.Reverse(files)
	if err := pack(target, "top", modified, files); err != nil {
		t.Fatal(err)
	}
	if string(read(t, target)) != string(first) {
		t.Error("the order of the files matters")
	}
	want := []string{
		"top/A 0644 0:0 2026-11-22T10:00:00Z text",
		"top/clntrace 0755 0:0 2026-11-22T10:00:00Z machine code",
	}
	if diff := cmp.Diff(want, entries(t, target)); diff != "" {
		t.Error(diff)
	}
}

func TestCompare(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		write(t, dir, "same", "1")
		write(t, dir, "other", "1")
	}
	if err := compare(a, b); err != nil {
		t.Errorf("equal ones: %v", err)
	}
	write(t, b, "other", "2")
	if err := compare(a, b); err == nil || !strings.HasSuffix(err.Error(), "differ in other") {
		t.Errorf("another file: %v", err)
	}
	write(t, b, "more", "")
	if err := compare(a, b); err == nil || !strings.Contains(err.Error(), `"more"`) {
		t.Errorf("a file more: %v", err)
	}
}

// The test's own binary is described, and its licenses are found.
func TestBillOfMaterials(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := builder{dir: "."}
	parts, err := b.modules(context.Background(), os.Environ(), self)
	if err != nil {
		t.Fatal(err)
	}
	s := source{Version: "0.1.0", Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	target := filepath.Join(t.TempDir(), "bom.json")
	if err := writeBOM(target, s, self, parts); err != nil {
		t.Fatal(err)
	}
	var bom struct {
		SerialNumber string
		Metadata     struct {
			Timestamp string
			Component struct{ Hashes []struct{ Content string } }
		}
		Components []struct {
			Purl     string
			Licenses []struct{ License struct{ ID string } }
		}
	}
	if err := json.Unmarshal(read(t, target), &bom); err != nil {
		t.Fatal(err)
	}
	if bom.SerialNumber != "" || bom.Metadata.Timestamp != "2026-11-22T10:00:00Z" {
		t.Errorf("serial number %q, time %q", bom.SerialNumber, bom.Metadata.Timestamp)
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(read(t, self))); bom.Metadata.Component.Hashes[0].Content != want {
		t.Errorf("%+v is not the hash of the binary", bom.Metadata.Component)
	}
	found := map[string]string{}
	for _, c := range bom.Components {
		module, _, _ := strings.Cut(c.Purl, "@")
		found[module] = c.Licenses[0].License.ID
	}
	for module, license := range map[string]string{"std": "BSD-3-Clause", "github.com/CycloneDX/cyclonedx-go": "Apache-2.0", "golang.org/x/mod": "BSD-3-Clause"} {
		if got := found["pkg:golang/"+module]; got != license {
			t.Errorf("%s has license %q, want %q", module, got, license)
		}
	}
	if text := licenseTexts(parts); !strings.Contains(text, "github.com/CycloneDX/cyclonedx-go v") || !strings.Contains(text, "Apache License") {
		t.Errorf("license texts:\n%s", text)
	}
	if _, err := readLicenses(t.TempDir()); err == nil {
		t.Error("a module without a license passes")
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// entries tells what is in an archive.
func entries(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	compressed, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for r := tar.NewReader(compressed); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %#o %d:%d %s %s", h.Name, h.Mode, h.Uid, h.Gid, h.ModTime.UTC().Format(time.RFC3339), body))
	}
}
