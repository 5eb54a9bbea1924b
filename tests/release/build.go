package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// target is a system to build for. Its level is the oldest processor that the
// binary runs on: GOARM and the like.
type target struct{ os, arch, level string }

var targets = []target{
	{"linux", "amd64", "GOAMD64=v1"},
	{"linux", "arm64", "GOARM64=v8.0"},
	{"linux", "arm", "GOARM=7"},
	{"darwin", "amd64", "GOAMD64=v1"},
	{"darwin", "arm64", "GOARM64=v8.0"},
	{"freebsd", "amd64", "GOAMD64=v1"},
}

// String is the target as in file names: linux_armv7.
func (t target) String() string {
	if t.arch == "arm" {
		return t.os + "_armv" + strings.TrimPrefix(t.level, "GOARM=")
	}
	return t.os + "_" + t.arch
}

// builder is one of the two environments in which a release is built.
type builder struct {
	dir     string // of its clone
	history bool   // whether the clone has a .git
	env     []string
}

// builders returns two that differ in everything that must not matter.
func builders(work string, quick bool) [2]builder {
	common := environment()
	again := append(common[:len(common):len(common)], "GOFLAGS=-p=3 -mod=mod", "LC_ALL=C", "TZ=Asia/Tokyo")
	if !quick {
		again = append(again, "GOCACHE="+filepath.Join(work, "cache"))
	}
	return [2]builder{
		{filepath.Join(work, "clone"), true, append(common[:len(common):len(common)], "GOFLAGS=-mod=readonly")},
		{filepath.Join(work, "another-directory", "clntrace"), false, again},
	}
}

// environment is the current one, without the variables that change what Go builds.
func environment() []string {
	env := []string{}
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "GOFLAGS", "GOEXPERIMENT", "GODEBUG", "GOFIPS140", "GOOS", "GOARCH":
		default:
			env = append(env, v)
		}
	}
	return append(env, "CGO_ENABLED=0", "GOWORK=off")
}

// build clones the source and builds the release into out, a new directory.
func (b builder) build(ctx context.Context, s source, out string) error {
	if _, err := git(ctx, s.Root, "-c", "core.autocrlf=false", "clone", "--quiet", "--no-checkout", s.Root, b.dir); err != nil {
		return err
	}
	if _, err := git(ctx, b.dir, "-c", "core.autocrlf=false", "checkout", "--quiet", "--detach", s.Commit); err != nil {
		return err
	}
	if !b.history {
		if err := os.RemoveAll(filepath.Join(b.dir, ".git")); err != nil {
			return err
		}
	}
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	bins, err := os.MkdirTemp(filepath.Dir(out), "bin")
	if err != nil {
		return err
	}
	for _, t := range targets {
		if err := b.buildTarget(ctx, s, t, filepath.Join(bins, t.String()), out); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	return writeSums(out)
}

// buildTarget builds, describes and packs the binary of one target.
func (b builder) buildTarget(ctx context.Context, s source, t target, binary, out string) error {
	const stamp = "clntrace/plugin.release" // see version.go there
	env := append(b.env[:len(b.env):len(b.env)], "GOOS="+t.os, "GOARCH="+t.arch, t.level)
	if _, err := b.goCommand(ctx, env, "build", "-trimpath", "-buildvcs=false", "-o", binary, "-ldflags",
		fmt.Sprintf("-s -w -buildid= -X %sVersion=%s -X %sCommit=%s", stamp, s.Version, stamp, s.Commit), "."); err != nil {
		return err
	}
	if err := checkStamp(ctx, s, t, binary); err != nil {
		return err
	}
	parts, err := b.modules(ctx, env, binary)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("clntrace_%s_%s", s.Version, t)
	if err := writeBOM(filepath.Join(out, name+".cdx.json"), s, binary, parts); err != nil {
		return err
	}
	files := []packed{{name: "clntrace", path: binary, mode: 0o755}, {name: "THIRD_PARTY_LICENSES", text: licenseTexts(parts)}}
	for _, text := range []string{"CHANGELOG.md", "LICENSE", "README.md"} {
		files = append(files, packed{name: text, path: filepath.Join(b.dir, text)})
	}
	return pack(filepath.Join(out, name+".tar.gz"), name, s.Time, files)
}

// checkStamp checks the version that the binary prints, if it can run here: the
// linker does not complain about a -X for a variable that does not exist.
func checkStamp(ctx context.Context, s source, t target, binary string) error {
	if t.os != runtime.GOOS || t.arch != runtime.GOARCH {
		return nil
	}
	said, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return fmt.Errorf("asking the binary for its version: %w", err)
	}
	if want := fmt.Sprintf("clntrace %s, commit %s, go", s.Version, s.Commit); !strings.HasPrefix(string(said), want) {
		return fmt.Errorf("the binary's --version is %q, and not %q", said, want)
	}
	return nil
}

// goCommand runs the go command in the clone and returns what it prints.
func (b builder) goCommand(ctx context.Context, env []string, args ...string) ([]byte, error) {
	var complaint strings.Builder
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env, cmd.Stderr = b.dir, env, &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, complaint.String())
	}
	return out, nil
}
