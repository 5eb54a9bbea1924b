package tests

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

var (
	code       = regexp.MustCompile("(?s)```.*?```|`[^`\n]+`")
	optionName = regexp.MustCompile(`\bclntrace-[a-z]+(?:-[a-z]+)*\b`)
	flagName   = regexp.MustCompile(`\bclntrace (?:collect|demo)((?: --[a-z-]+\S*)+)`)
	rpcCall    = regexp.MustCompile(`lightning-cli (?:-k )?(tracestats|listtraces)((?: [a-z]+=\S+)*)`)
	goRun      = regexp.MustCompile(`go (?:run|test|doc|build)((?: \S+)*)`)
	runPattern = regexp.MustCompile(`-(?:run|fuzz) '?([A-Za-z]+)`)
)

// notOptions begin like options and are none.
var notOptions = []string{"clntrace-spool", "clntrace-x", "clntrace-try"}

// commands returns the commands and names in text: what stands in code.
func commands(text string) []string { return code.FindAllString(text, -1) }

// help is what clntrace says of a command or option.
func help(t *testing.T, topic string) string {
	t.Helper()
	out, err := exec.Command(clntrace, "help", topic).CombinedOutput()
	if err != nil {
		t.Errorf("clntrace help %s: %v: %s", topic, err, out)
	}
	return string(out)
}

func TestMarkdownNamesOnlyOptionsThatExist(t *testing.T) {
	known := make(map[string]bool)
	for path, text := range markdown(t) {
		for _, c := range commands(text) {
			for _, name := range optionName.FindAllString(c, -1) {
				if known[name] || slices.Contains(notOptions, name) {
					continue
				}
				if !strings.Contains(help(t, name), name+"=") && !strings.Contains(help(t, name), name+"\n") && !strings.Contains(help(t, name), name+" (") {
					t.Errorf("%s: %s: there is no such option", path, name)
				}
				known[name] = true
			}
			for _, m := range flagName.FindAllStringSubmatch(c, -1) {
				about := help(t, "collect") + help(t, "demo")
				for flag := range strings.FieldsSeq(m[1]) {
					flag, _, _ = strings.Cut(strings.Trim(flag, "`"), "=")
					if !strings.Contains(about, flag) && flag != "--help" {
						t.Errorf("%s: %s: there is no flag %s", path, m[0], flag)
					}
				}
			}
		}
	}
	if len(known) < 15 {
		t.Errorf("found only %d options", len(known))
	}
}

func TestMarkdownCallsWithParametersThatExist(t *testing.T) {
	called := 0
	for path, text := range markdown(t) {
		for _, m := range rpcCall.FindAllStringSubmatch(text, -1) {
			called++
			about := help(t, m[1])
			for parameter := range strings.FieldsSeq(m[2]) {
				if name, _, _ := strings.Cut(parameter, "="); !strings.Contains(about, "\n  "+name+" ") {
					t.Errorf("%s: %s: there is no parameter %s", path, m[0], name)
				}
			}
		}
	}
	if called < 5 {
		t.Errorf("found only %d calls", called)
	}
}

// A figure or a claim that nobody can get again is worth little, so the packages,
// tests and fuzzers of the commands beside them exist.
func TestMarkdownRunsWhatExists(t *testing.T) {
	functions := testFunctions(t)
	for path, text := range markdown(t) {
		for _, c := range commands(text) {
			for _, m := range goRun.FindAllStringSubmatch(c, -1) {
				for word := range strings.FieldsSeq(m[1]) {
					word = strings.Trim(word, "`")
					if !strings.HasPrefix(word, "./") || strings.Contains(word, "...") {
						continue
					}
					// Beside the page, in the root or in tests.
					found := false
					for _, root := range []string{"..", ".", filepath.Join("..", filepath.Dir(path))} {
						_, err := os.Stat(filepath.Join(root, word))
						found = found || err == nil
					}
					if !found {
						t.Errorf("%s: %s: there is no %s", path, m[0], word)
					}
				}
			}
			for _, m := range runPattern.FindAllStringSubmatch(c, -1) {
				if !strings.Contains(functions, m[1]) {
					t.Errorf("%s: no test matches %s", path, m[1])
				}
			}
		}
	}
}

// testFunctions are the names of all tests and fuzzers.
func testFunctions(t *testing.T) string {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func (?:Test|Fuzz|Benchmark)\w*`)
	var names strings.Builder
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range declared.FindAll(text, -1) {
			names.Write(name)
			names.WriteByte('\n')
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names.String()
}

// The tour in collector/doc.go leads into every room.
func TestTourHasEveryRoom(t *testing.T) {
	tour, err := os.ReadFile("../collector/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	rooms, err := os.ReadDir("../collector")
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms {
		if room.IsDir() && !regexp.MustCompile(`(?m)^//\t`+room.Name()+` `).Match(tour) {
			t.Errorf("collector/doc.go does not show %s", room.Name())
		}
	}
}
