// Package version says which version of clntrace this is, and what it was built from.
package version

import (
	"cmp"
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"
)

// next is the release that this source will become: the topmost one in
// CHANGELOG.md.
const next = "0.2.0"

// Set by .goreleaser.yaml with -ldflags -X, and empty in every other build. Releases
// are built without Go's own information about the repository, so that they have
// the same bytes wherever they are built.
var releaseVersion, releaseCommit string

// pseudoVersion matches the end of the version that Go makes up for a commit
// without a tag: its time and its first 12 digits.
var pseudoVersion = regexp.MustCompile(`[-.]\d{14}-([0-9a-f]{12})$`)

// Number is the version of this build, as shown by --version and tracestats and
// as exported: 0.2.0 for a release or a tagged commit, 0.2.0-dev+COMMIT for any
// other commit, either with "dirty" at the end if files had been changed, and
// 0.2.0-dev for a build that does not know its commit.
func Number() string {
	return buildOf(readBuildInfo()).version
}

// Line is the answer to --version: version, commit and Go version.
func Line() string {
	info := readBuildInfo()
	b := buildOf(info)
	return fmt.Sprintf("clntrace %s, commit %s, %s", b.version, cmp.Or(b.commit, "unknown"), info.GoVersion)
}

func readBuildInfo() debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return *info
	}
	return debug.BuildInfo{}
}

// build says what a binary was built from.
type build struct {
	version, commit string // commit is empty if it is not known
}

func buildOf(info debug.BuildInfo) build {
	if releaseVersion != "" {
		return build{releaseVersion, releaseCommit}
	}
	b := build{}
	// Go gives the tag, makes up a version for a commit without one, or says
	// (devel) if it did not look, as with go run or -buildvcs=false.
	tag, dirty := strings.CutSuffix(strings.TrimPrefix(info.Main.Version, "v"), "+dirty")
	if m := pseudoVersion.FindStringSubmatch(tag); m != nil {
		tag, b.commit = "", m[1]
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.commit = s.Value
		case "vcs.modified":
			dirty = dirty || s.Value == "true"
		}
	}
	about := []string{}
	if b.version = tag; tag == "" || tag == "(devel)" {
		b.version = next + "-dev"
		if b.commit != "" {
			about = append(about, b.commit[:min(12, len(b.commit))])
		}
	}
	if dirty {
		about = append(about, "dirty")
	}
	if len(about) > 0 {
		b.version += "+" + strings.Join(about, ".")
	}
	return b
}
