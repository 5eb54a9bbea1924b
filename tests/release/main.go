// Command release builds what is published of clntrace into dist/, and proves
// that anybody who builds the same commit with the same Go gets the same bytes.
//
// It gets a commit whose files are not changed, and gives, for each target, an
// archive of the static binary with the texts that belong to it (the licenses of
// all that is linked in, too) and a software bill of materials, and SHA256SUMS
// of all. Everything is made with Go alone,
// in one process, since tar, gzip and their like differ between systems.
//
// Two clones are built, in directories of other names, one without the
// repository's history, with another GOFLAGS and from an empty build cache
// (with -quick: from the usual one). What they give must be equal byte for byte
// before it reaches dist/.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	flags := flag.NewFlagSet("release", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "Usage: .ci/release [-quick] [VERSION]\n\n"+
			"Builds VERSION, by default that of the commit's tag, else a development version.\n\n")
		flags.PrintDefaults()
	}
	quick := flags.Bool("quick", false, "build the second time with the build cache, too")
	_ = flags.Parse(os.Args[1:]) // ends the process itself
	if flags.NArg() > 1 {
		flags.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, flags.Arg(0), *quick); err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, version string, quick bool) error {
	root, err := git(ctx, ".", "rev-parse", "--show-toplevel")
	if err != nil {
		return fmt.Errorf("a release is built from a commit, and this is no git repository: %w", err)
	}
	source, err := inspect(ctx, root, version)
	if err != nil {
		return err
	}
	fmt.Printf("clntrace %s of commit %s\n", source.Version, source.Commit)
	work, err := os.MkdirTemp("", "clntrace-release")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	made := [2]string{filepath.Join(work, "made"), filepath.Join(work, "made-again")}
	for i, b := range builders(work, quick) {
		began := time.Now()
		if err := b.build(ctx, source, made[i]); err != nil {
			return err
		}
		fmt.Printf("built in %s: %v\n", b.dir, time.Since(began).Round(time.Second))
	}
	if err := compare(made[0], made[1]); err != nil {
		return err
	}
	dist := filepath.Join(root, "dist")
	if err := replace(dist, made[0]); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(dist, sumsFile))
	fmt.Printf("both builds are equal, byte for byte; dist/%s:\n%s", sumsFile, sums)
	return err
}
