package version

import (
	"os"
	"regexp"
	"runtime/debug"
	"testing"
)

func TestBuildOf(t *testing.T) {
	const commit = "27ced5fecba1d0e7a4f3b9cc0e8d2f6a51b7c3e9"
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: modified}}
	}
	dev := next + "-dev"
	for _, tt := range []struct {
		name     string
		module   string // the main module's version as Go says it
		settings []debug.BuildSetting
		want     build
	}{
		{"go run", "(devel)", nil, build{dev, ""}},
		{"no build information", "", nil, build{dev, ""}},
		{"a tag", "v0.1.0", vcs("false"), build{"0.1.0", commit}},
		{"a tag of a pre-release", "v0.2.0-rc.1", vcs("false"), build{"0.2.0-rc.1", commit}},
		{"a tag, and changes", "v0.1.0+dirty", vcs("true"), build{"0.1.0+dirty", commit}},
		{"no tag yet", "v0.0.0-20261122102547-27ced5fecba1", vcs("false"), build{dev + "+27ced5fecba1", commit}},
		{"after a tag", "v0.1.1-0.20261122102547-27ced5fecba1", vcs("false"), build{dev + "+27ced5fecba1", commit}},
		{"after a pre-release", "v0.2.0-rc.1.0.20261122102547-27ced5fecba1", vcs("false"), build{dev + "+27ced5fecba1", commit}},
		{"no tag, and changes", "v0.0.0-20261122102547-27ced5fecba1+dirty", vcs("true"), build{dev + "+27ced5fecba1.dirty", commit}},
		{"go install of a version", "v0.1.0", nil, build{"0.1.0", ""}},
		{"go install of a commit", "v0.1.1-0.20261122102547-27ced5fecba1", nil, build{dev + "+27ced5fecba1", "27ced5fecba1"}},
		{"commit without a version", "(devel)", vcs("true"), build{dev + "+27ced5fecba1.dirty", commit}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			info := debug.BuildInfo{Settings: tt.settings}
			info.Main.Version = tt.module
			if got := buildOf(info); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNextIsTheTopmostOfTheChangelog(t *testing.T) {
	changelog, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	topmost := regexp.MustCompile(`(?m)^## (\S+)`).FindSubmatch(changelog)
	if topmost == nil || string(topmost[1]) != next {
		t.Errorf("next is %s, the changelog begins with %q", next, topmost)
	}
}
