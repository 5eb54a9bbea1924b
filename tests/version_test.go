package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"clntrace/tests/recording"
)

// What --version says is what tracestats and the exported spans say.
func TestOneVersion(t *testing.T) {
	t.Parallel()
	said, _, _ := byHand(t, nil, "--version")
	version, _, _ := strings.Cut(strings.TrimPrefix(said, "clntrace "), ", commit ")
	n, r := launchWith(t, nil)
	send(t, n.Senders(sender).Start("lightningd"), recording.Numbered("extend_tip", 1, 1)...)
	exported := r.WaitSpans(t, 1)[0].ScopeVersion
	reported := waitStats(t, n, "a report", func(report) bool { return true }).Version
	if version == "" || exported != version || reported != version {
		t.Errorf("--version says %q, the spans %q, tracestats %q", version, exported, reported)
	}
}

// What a build calls itself, in a repository without and with a tag, and with a
// change. A release checks its own binary.
func TestVersionOfBuilds(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	for _, dir := range []string{"plugin", "collector"} {
		if err := os.CopyFS(filepath.Join(root, dir), os.DirFS(filepath.Join("..", dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"main.go", "go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	binary := filepath.Join(t.TempDir(), "clntrace") // elsewhere, or it would be a change
	built := func() string {
		args := []string{"build", "-buildvcs=true", "-ldflags=-s -w", "-o", binary}
		if raceEnabled {
			args = append(args, "-race")
		}
		run("go", append(args, ".")...)
		said := run(binary, "--version")
		return said[:strings.LastIndex(said, ", ")]
	}

	run("git", "init", "--quiet")
	run("git", "add", ".")
	run("git", "-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "--quiet", "-m", "first")
	first := run("git", "rev-parse", "HEAD")
	untagged := built()
	if next, after, _ := strings.Cut(untagged, "-dev+"); !strings.HasPrefix(next, "clntrace ") || after != first[:12]+", commit "+first {
		t.Errorf("without a tag: %q", untagged)
	}
	run("git", "tag", "v0.9.8")
	if got := built(); got != "clntrace 0.9.8, commit "+first {
		t.Errorf("with a tag: %q", got)
	}
	if err := os.WriteFile(filepath.Join(root, "notes"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := built(); got != "clntrace 0.9.8+dirty, commit "+first {
		t.Errorf("with a change: %q", got)
	}
}
