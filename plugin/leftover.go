package plugin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/elementsproject/glightning/glightning"

	"clntrace/collector/text"
)

// leftovers warns of options that would keep the node from starting. lightningd
// writes what setconfig sets to config.setconfig, and reads that file at every start.
// If nothing then names the plugin, because it was started with plugin start, the
// options there are unknown, and lightningd ends. What lightningd knows of its
// configuration is asked once; later only the files are read.
type leftovers struct {
	known atomic.Pointer[configuration] // nil: lightningd has not told yet
	said  atomic.Bool                   // in the log
}

// configuration is what of lightningd's configuration decides whether the node starts
// again with our options in it.
type configuration struct {
	plugin    string   // our own path, as lightningd knows it
	named     bool     // by what no edit of a file undoes
	files     []string // that name the plugin, or may
	setconfig string   // the file that setconfig writes
}

// configs is what of listconfigs is used.
type configs struct {
	Configs map[string]struct {
		Value   string   `json:"value_str"`
		Values  []string `json:"values_str"`
		Source  string   `json:"source"`
		Sources []string `json:"sources"`
		Plugin  string   `json:"plugin"`
	} `json:"configs"`
}

// fileLine is a source in listconfigs that is a line of a file.
var fileLine = regexp.MustCompile(`^(.+):[0-9]+$`)

// learn asks lightningd for its configuration. dir is the network's.
func (l *leftovers) learn(ctx context.Context, rpcFile, dir string) error {
	var list configs
	if err := call(ctx, rpcFile, &glightning.ListConfigsRequest{}, &list); err != nil {
		return err
	}
	c := list.configuration(dir)
	l.known.Store(&c)
	return nil
}

func (l *configs) configuration(dir string) configuration {
	var c configuration
	for name, option := range l.Configs {
		if strings.HasPrefix(name, prefix) && option.Plugin != "" {
			c.plugin = option.Plugin
		}
		if m := fileLine.FindStringSubmatch(option.Source); m != nil && strings.HasSuffix(m[1], ".setconfig") {
			c.setconfig = m[1]
		}
	}
	if c.setconfig == "" { // nothing is in it, unless later calls were transient
		base := l.Configs["conf"].Value
		if base == "" {
			base = filepath.Join(dir, "config")
		}
		c.setconfig = base + ".setconfig"
	}
	c.files = []string{strings.TrimSuffix(c.setconfig, ".setconfig"), filepath.Join(filepath.Dir(dir), "config")}
	for _, name := range pluginOptions {
		option := l.Configs[name]
		for i, value := range option.Values {
			if i >= len(option.Sources) || !same(value, c.plugin) {
				continue
			}
			if m := fileLine.FindStringSubmatch(option.Sources[i]); m != nil {
				c.files = append(c.files, m[1])
			} else {
				c.named = true // on the command line
			}
		}
	}
	own := filepath.Dir(c.plugin)
	inDir := func(dir string) bool { return same(dir, own) }
	c.named = c.named || slices.ContainsFunc(l.Configs["plugin-dir"].Values, inDir)
	// lightningd takes what is in this one by itself, and in the directories in it.
	if plugins := filepath.Join(filepath.Dir(dir), "plugins"); inDir(plugins) || same(plugins, filepath.Dir(own)) {
		c.named = true
	}
	return c
}

// pluginOptions are lightningd's options that name a plugin.
var pluginOptions = []string{"plugin", "important-plugin"}

// same reports whether two paths lead to the same file.
func same(a, b string) bool {
	if a == b {
		return true
	}
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// warning says what to do before the next restart. It is empty if there is nothing
// to do, or nothing known.
func (l *leftovers) warning() string {
	c := l.known.Load()
	if c == nil || c.plugin == "" || c.named || slices.ContainsFunc(c.files, c.namedIn) {
		return ""
	}
	number, line := find(c.setconfig, func(line string) bool { return strings.HasPrefix(line, prefix) })
	if number == 0 {
		return ""
	}
	option, _, _ := strings.Cut(line, "=")
	return text.ASCII(fmt.Sprintf("The node will not start again: line %d of %s sets %s, and nothing in lightningd's configuration names the plugin. "+
		"Before the next restart add the line 'plugin=%s' to %s. Or stop the node and remove the lines that begin with '%s' from %s, but keep the file: lightningd needs it.",
		number, c.setconfig, option, c.plugin, c.files[0], prefix, c.setconfig))
}

// namedIn reports whether a line of file names the plugin.
func (c *configuration) namedIn(file string) bool {
	number, _ := find(file, func(line string) bool {
		name, value, _ := strings.Cut(line, "=")
		return slices.Contains(pluginOptions, name) && same(value, c.plugin)
	})
	return number > 0
}

// maxConfig is how many bytes of a configuration file are read.
const maxConfig = 1 << 20

// find returns the first line of file that is wanted, and its number; 0: there is
// none, or no file that can be read without waiting.
func find(file string, wanted func(line string) bool) (number int, line string) {
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return 0, ""
	}
	f, err := os.Open(file)
	if err != nil {
		return 0, ""
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return 0, ""
	}
	for l := range bytes.Lines(content) {
		number++
		if line = strings.TrimSpace(string(l)); wanted(line) {
			return number, line
		}
	}
	return 0, ""
}

// learnConfiguration asks lightningd for its configuration, and warns if it has to.
func (p *plugin) learnConfiguration(rpcFile, dir string) {
	ctx, cancel := context.WithTimeout(p.ending, p.rpc.answer)
	defer cancel()
	if err := p.leftovers.learn(ctx, rpcFile, dir); err != nil {
		p.log.Debug("lightningd does not tell its configuration", "error", err)
		return
	}
	p.logLeftovers()
}

// writeTime is how long lightningd may take to write down what we have accepted.
const writeTime = time.Second

// logLeftovers logs the warning, if there is one and it has not been logged before.
func (p *plugin) logLeftovers() {
	if p.ending.Err() != nil {
		return
	}
	if warning := p.leftovers.warning(); warning != "" && !p.leftovers.said.Swap(true) {
		p.log.Warn(warning)
	}
}
