package collect

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"clntrace/collector/options"
	"clntrace/collector/voice"
)

// spoken rewords for the command line of collect what does not speak through a Voice
// yet, but as the plugin does.
var spoken = func() func(string) string {
	pairs := []string{
		"in lightningd's configuration and restart the node", "and start collect anew",
		"tracestats counts", "the statistics count",
		"if tracestats is all you want", "if statistics are all you want",
	}
	names := slices.Clone(options.All())
	slices.SortFunc(names, func(a, b options.Option) int { return len(b.Name) - len(a.Name) }) // so that a name wins over one that it begins with
	for _, o := range names {
		pairs = append(pairs, voice.Plugin.Option(o.Name), voice.Collect.Option(o.Name))
	}
	return strings.NewReplacer(pairs...).Replace
}()

// spokenLog is the log of collect, with its messages and values reworded.
func spokenLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if value := a.Value.Any(); a.Value.Kind() == slog.KindString || value != nil && a.Value.Kind() == slog.KindAny {
			if _, leveled := value.(slog.Level); !leveled {
				a.Value = slog.StringValue(spoken(fmt.Sprint(value)))
			}
		}
		return a
	}}))
}
