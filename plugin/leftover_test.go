package plugin

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLeftoverOptions(t *testing.T) {
	top := t.TempDir()
	dir, elsewhere := filepath.Join(top, "regtest"), filepath.Join(top, "elsewhere")
	own := filepath.Join(elsewhere, "clntrace")
	write := func(path, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(own, "")
	if err := os.Symlink(own, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	const persistent = "# Created by setconfig\nlog-level=debug\nclntrace-otlp-endpoint=off\n"
	const trap = "line 3 of SETCONFIG sets clntrace-otlp-endpoint"
	for name, tt := range map[string]struct {
		listed    string // configs beside our option
		setconfig string
		config    string
		at        string // where the plugin is; empty: elsewhere
		want      string
	}{
		"nobody names it":           {setconfig: persistent, want: trap},
		"nothing was written":       {},
		"only of others":            {setconfig: "log-level=debug\n"},
		"a comment":                 {setconfig: "# clntrace-otlp-endpoint=off\n"},
		"another plugin":            {setconfig: persistent, config: "plugin=/bin/sh\n", want: trap},
		"named since the start":     {setconfig: persistent, config: "alias=x\nplugin=" + own + "\n"},
		"named as important":        {setconfig: persistent, config: "important-plugin=" + own},
		"named by a link":           {setconfig: persistent, config: "plugin=" + top + "/link\n"},
		"on the command line":       {setconfig: persistent, listed: `,"plugin":{"values_str":["/x","OWN"],"sources":["default","cmdline"]}`},
		"no longer in the file":     {setconfig: persistent, config: "alias=x\n", listed: `,"plugin":{"values_str":["OWN"],"sources":["DIR/config:1"]}`, want: trap},
		"in an included file":       {setconfig: persistent, listed: `,"important-plugin":{"values_str":["OWN"],"sources":["TOP/included:1"]}`},
		"in a plugin directory":     {setconfig: persistent, listed: `,"plugin-dir":{"values_str":["TOP/elsewhere"],"sources":["cmdline"]}`},
		"above a plugin directory":  {setconfig: persistent, listed: `,"plugin-dir":{"values_str":["TOP"],"sources":["cmdline"]}`, want: trap},
		"in lightningd's directory": {setconfig: persistent, at: filepath.Join(top, "plugins", "clntrace")},
		"one deeper":                {setconfig: persistent, at: filepath.Join(top, "plugins", "tracing", "clntrace")},
	} {
		t.Run(name, func(t *testing.T) {
			setconfig := filepath.Join(dir, "config.setconfig")
			write(setconfig, tt.setconfig)
			write(filepath.Join(dir, "config"), tt.config)
			write(filepath.Join(top, "included"), "plugin="+own+"\n")
			at := own
			if tt.at != "" {
				at = tt.at
				write(at, "")
			}
			replace := strings.NewReplacer("OWN", own, "DIR", dir, "TOP", top, "SETCONFIG", setconfig).Replace
			var list configs
			text := `{"configs":{"clntrace-otlp-endpoint":{"value_str":"off","source":"setconfig transient","plugin":"` + at + `"}` + replace(tt.listed) + `}}`
			if err := json.Unmarshal([]byte(text), &list); err != nil {
				t.Fatal(err)
			}
			c := list.configuration(dir)
			var l leftovers
			l.known.Store(&c)
			got := l.warning()
			if tt.want == "" && got != "" || !strings.Contains(got, replace(tt.want)) {
				t.Errorf("got %q, want %q", got, replace(tt.want))
			}
		})
	}
}

// With --conf, setconfig writes elsewhere; lightningd tells where by what it has read.
func TestWhereSetconfigWrites(t *testing.T) {
	for listed, want := range map[string]string{
		`{"configs":{}}`: "/n/regtest/config.setconfig",
		`{"configs":{"conf":{"value_str":"/etc/cln.conf"}}}`:          "/etc/cln.conf.setconfig",
		`{"configs":{"alias":{"source":"/etc/my.setconfig:7"}}}`:      "/etc/my.setconfig",
		`{"configs":{"alias":{"source":"/etc/other:7"}}}`:             "/n/regtest/config.setconfig",
		`{"configs":{"clntrace-payments":{"source":"/e.setconfig"}}}`: "/n/regtest/config.setconfig",
	} {
		var l configs
		if err := json.Unmarshal([]byte(listed), &l); err != nil {
			t.Fatal(err)
		}
		if got := l.configuration("/n/regtest").setconfig; got != want {
			t.Errorf("%s: got %s, want %s", listed, got, want)
		}
	}
}

// A configuration may be anything that can be opened, and tracestats must not wait.
func TestFindReadsNoPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if number, line := find(pipe, func(string) bool { return true }); number != 0 {
		t.Errorf("line %d: %q", number, line)
	}
}
