package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// source is the commit to be built, and its version.
type source struct {
	Root    string // the repository's work tree
	Commit  string // 40 digits
	Time    time.Time
	Version string // without a v in front
}

// inspect says what is built from the repository at root. If version is empty it is
// that of the commit's tag, and without a tag a development version. An error says
// why it cannot be released.
func inspect(ctx context.Context, root, version string) (source, error) {
	s := source{Root: root, Version: version}
	changes, err := git(ctx, root, "status", "--porcelain")
	if err != nil {
		return s, err
	}
	if changes != "" {
		return s, fmt.Errorf("files differ from the commit; commit or remove them first:\n%s", changes)
	}
	if s.Commit, err = git(ctx, root, "rev-parse", "HEAD"); err != nil {
		return s, err
	}
	seconds, err := git(ctx, root, "show", "-s", "--format=%ct", "HEAD")
	if err != nil {
		return s, err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return s, fmt.Errorf("time of commit %s: %w", s.Commit, err)
	}
	s.Time = time.Unix(unix, 0).UTC()
	tags, err := git(ctx, root, "tag", "--points-at", "HEAD")
	if err != nil {
		return s, err
	}
	changelog, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		return s, err
	}
	if version == "" {
		version = newest(strings.Fields(tags))
	}
	if version == "" {
		s.Version, err = development(string(changelog), s.Commit)
		return s, err
	}
	s.Version = version
	if err := checkVersion(version, string(changelog)); err != nil {
		return s, err
	}
	return s, checkTag(ctx, s)
}

// newest is the highest version among tags, without its v; empty if there is none.
func newest(tags []string) string {
	highest := ""
	for _, tag := range tags {
		if semver.Canonical(tag) == tag && (highest == "" || semver.Compare(tag, highest) > 0) {
			highest = tag
		}
	}
	return strings.TrimPrefix(highest, "v")
}

// heading matches the heading of a version in CHANGELOG.md, and the date after it.
var heading = regexp.MustCompile(`(?m)^## (\S+)[ \t]*(.*)$`)

// development is the version of a commit without a tag, the same as that of
// plugin.Version.
func development(changelog, commit string) (string, error) {
	next := heading.FindStringSubmatch(changelog)
	if next == nil {
		return "", fmt.Errorf("CHANGELOG.md has no heading '## VERSION'")
	}
	return next[1] + "-dev+" + commit[:12], nil
}

// checkVersion returns an error unless version may be released. A pre-release needs
// only the section of the release that it leads to, which may be unreleased.
func checkVersion(version, changelog string) error {
	if v := "v" + version; semver.Canonical(v) != v {
		return fmt.Errorf("version %q is not semantic versioning; allowed is MAJOR.MINOR.PATCH, also with -PRERELEASE", version)
	}
	release, _, isPre := strings.Cut(version, "-")
	for _, section := range heading.FindAllStringSubmatch(changelog, -1) {
		switch {
		case section[1] != release:
		case !isPre && strings.Contains(section[2], "unreleased"):
			return fmt.Errorf("CHANGELOG.md calls %s unreleased; put the date there and commit it", version)
		default:
			return nil
		}
	}
	return fmt.Errorf("CHANGELOG.md has no section '## %s'; say there what changed for users", release)
}

// checkTag refuses a version that another commit already has.
func checkTag(ctx context.Context, s source) error {
	tag := "v" + s.Version
	if found, err := git(ctx, s.Root, "tag", "--list", tag); err != nil || found == "" {
		return err
	}
	tagged, err := git(ctx, s.Root, "rev-parse", tag+"^{commit}")
	if err == nil && tagged != s.Commit {
		err = fmt.Errorf("%s is the tag of commit %s, and this is %s", tag, tagged, s.Commit)
	}
	return err
}

// git returns what a git command prints, without the line's end.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	var complaint strings.Builder
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Stderr = dir, &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimRight(string(out), "\n"), nil
}
