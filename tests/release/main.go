// Command release builds a release of clntrace into dist/, and proves that anybody
// who builds the same commit with the same Go gets the same bytes.
//
// It takes a commit, without changes to its files. For each target it makes an
// archive of the static binary with the texts that belong to it (including the
// licenses of everything that is linked in), and a software bill of materials; and
// it makes SHA256SUMS of all these. It uses only Go, in one process, because tar,
// gzip and the like differ between systems.
//
// It builds two clones, in directories with different names, one of them without
// the repository's history, with other GOFLAGS and from an empty build cache (with
// -quick: from the usual one). The results must be equal byte for byte before they
// get into dist/.
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
