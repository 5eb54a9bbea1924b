package tests

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxReadme is how many lines a person reads before the first try.
const maxReadme = 230

// markdown returns the project's Markdown files, by path from its root.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "dist"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".md"):
			return nil
		}
		text, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, "../")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 5 {
		t.Fatalf("found only %d Markdown files", len(files))
	}
	return files
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	// notInAnchors is what is left out of a heading when it becomes an anchor.
	notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns what links can lead to within text.
func anchors(text string) map[string]bool {
	set := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		anchor := notInAnchors.ReplaceAllString(strings.ToLower(m[1]), "")
		set[strings.ReplaceAll(anchor, " ", "-")] = true
	}
	return set
}

func TestLinksInMarkdownLeadSomewhere(t *testing.T) {
	files := markdown(t)
	checked := 0
	for path, text := range files {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue // no network in tests
			}
			checked++
			to := path
			if target != "" {
				to = filepath.Join(filepath.Dir(path), target)
				if _, err := os.Stat(filepath.Join("..", to)); err != nil {
					t.Errorf("%s links to %s, which does not exist", path, m[1])
					continue
				}
			}
			if anchor != "" && !anchors(files[to])[anchor] {
				t.Errorf("%s links to %s, but %s has no such heading", path, m[1], to)
			}
		}
	}
	if checked < 20 {
		t.Errorf("checked only %d links", checked)
	}
}

func TestREADMEIsShort(t *testing.T) {
	if n := strings.Count(markdown(t)["README.md"], "\n"); n > maxReadme {
		t.Errorf("README.md has %d lines, and people read at most %d", n, maxReadme)
	}
}

// A setconfig that lightningd writes down keeps the node from starting when the
// plugin is gone, so no page may teach it.
func TestMarkdownTeachesOnlyTransientSetconfig(t *testing.T) {
	taught := 0
	for path, text := range markdown(t) {
		for line := range strings.Lines(text) {
			if !strings.Contains(line, "lightning-cli") || !strings.Contains(line, "setconfig") {
				continue
			}
			taught++
			if !strings.Contains(line, "-k setconfig config=") || !strings.Contains(line, "transient=true") {
				t.Errorf("%s: %s", path, strings.TrimSpace(line))
			}
		}
	}
	if taught == 0 {
		t.Error("no page says how to change an option on a running node")
	}
}
