package plugin

import (
	"cmp"
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"
)

// next is the release that this source leads to, the topmost of CHANGELOG.md.
const next = "0.1.0"

// What tests/release sets with -ldflags -X; empty in every other build. Without
// the repository's history in it, a release has the same bytes wherever it was
// built.
var releaseVersion, releaseCommit string

// pseudoVersion is the end of what Go calls a commit that has no tag: its time
// and its first 12 digits.
var pseudoVersion = regexp.MustCompile(`[-.]\d{14}-([0-9a-f]{12})$`)

// Version is what this build calls itself, the same in --version, tracestats
// and what is exported: 0.1.0 for a release or a tagged commit,
// 0.1.0-dev+COMMIT for another one, and with dirty at its end where files were
// changed after the commit. A build that knows no commit is 0.1.0-dev.
func Version() string {
	return buildOf(readBuildInfo()).version
}

// VersionLine is the answer to --version: version, commit and Go version.
func VersionLine() string {
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

// build is where a binary comes from.
type build struct {
	version, commit string // commit is empty if it is not known
}

func buildOf(info debug.BuildInfo) build {
	if releaseVersion != "" {
		return build{releaseVersion, releaseCommit}
	}
	b := build{}
	// Go names a tag, makes up a version for a commit without one, or says
	// (devel) where it looked for neither: with go run or -buildvcs=false.
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
