//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"clntrace/tests/lightningdtest"
)

// programs are the paths of the executables; empty: not needed, or not found.
type programs struct {
	clntrace, before, floor, forwarder, otelcol, sender, sink string
	python, reader                                            string // the interpreter and its program
	lightningd, fakechain                                     string
}

// build builds or finds the programs that the configuration asks for. What depends
// on one that cannot be found is left out.
func (b *bench) build(ctx context.Context) error {
	_, here, _, _ := runtime.Caller(0)
	bench := filepath.Dir(here)
	p := &b.programs
	if err := b.goBuild(ctx, bench, &p.sender, "sender"); err != nil {
		return err
	}
	if err := b.goBuild(ctx, bench, &p.sink, "sink"); err != nil {
		return err
	}
	for _, key := range b.receivers {
		var err error
		switch key {
		case clntraceKey:
			err = b.buildClntrace(ctx, filepath.Join(bench, "..", ".."))
		case beforeKey:
			p.before, err = filepath.Abs(b.before)
		case floorKey:
			err = b.goBuild(ctx, bench, &p.floor, "floor")
		case collectorKey:
			if err = b.goBuild(ctx, bench, &p.forwarder, "forwarder"); err == nil {
				p.otelcol = filepath.Join(b.dir, "otelcol")
				err = goBuild(ctx, filepath.Join(bench, ".."), p.otelcol, "./otelcol")
			}
		case pythonKey:
			b.findPython(ctx, bench)
		}
		if err != nil {
			return err
		}
	}
	if slices.Contains(b.workloads, nodeLoad) {
		return b.findLightningd()
	}
	return nil
}

// goBuild builds the program of that name in the directory.
func (b *bench) goBuild(ctx context.Context, dir string, path *string, name string) error {
	*path = filepath.Join(b.dir, name)
	return goBuild(ctx, dir, *path, "./"+name)
}

func goBuild(ctx context.Context, dir, path, what string) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", path, what)
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", filepath.Base(path), err, out)
	}
	return nil
}

func (b *bench) buildClntrace(ctx context.Context, root string) (err error) {
	if b.clntrace != "" {
		b.programs.clntrace, err = filepath.Abs(b.clntrace)
		return err
	}
	b.programs.clntrace = filepath.Join(b.dir, "clntrace")
	return goBuild(ctx, root, b.programs.clntrace, ".")
}

// findPython looks for the interpreter itself. What is in the PATH may be a script
// that starts it, whose work would be counted as the reader's.
func (b *bench) findPython(ctx context.Context, bench string) {
	out, err := exec.CommandContext(ctx, "python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		b.note("No python3 (%v): the Python reader is left out.", err)
		b.receivers = slices.DeleteFunc(slices.Clone(b.receivers), func(key string) bool { return key == pythonKey })
		return
	}
	b.programs.python = strings.TrimSpace(string(out))
	b.programs.reader = filepath.Join(bench, "reader.py")
}

func (b *bench) findLightningd() (err error) {
	path := os.Getenv("LIGHTNINGD")
	if path == "" {
		path, _ = exec.LookPath("lightningd")
	}
	if path == "" {
		b.note("No lightningd in the PATH or named in LIGHTNINGD: the start of a real node is left out.")
		b.workloads = slices.DeleteFunc(slices.Clone(b.workloads), func(key string) bool { return key == nodeLoad })
		return nil
	}
	b.programs.lightningd = path
	b.programs.fakechain, err = lightningdtest.BuildFakechain(b.dir)
	return err
}
