package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"clntrace/collector/patient"
	"clntrace/collector/text"
)

const (
	// maxLogLines is how many lines wait while lightningd does not read them:
	// enough for a start. More would say nothing new.
	maxLogLines = 256
	// maxLogLine bounds a line, in bytes: lightningd keeps its log in memory.
	maxLogLine = 2048
)

// logLine is one line, with lightningd's name for its level.
type logLine struct{ level, message string }

// newLogQueue returns the queue in which log lines wait until lightningd takes them.
func newLogQueue() *patient.Queue[logLine] { return patient.New[logLine](maxLogLines) }

// passLog passes lines from the queue to write, which may block, until the queue is
// closed.
func passLog(queue *patient.Queue[logLine], write func(level, message string)) {
	queue.Run(func(l logLine) { write(l.level, l.message) }, func(dropped uint64) {
		write(levelName(slog.LevelWarn), fmt.Sprintf("%d log lines were dropped, because lightningd did not read them", dropped))
	})
}

// levelName is lightningd's name for a level.
func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "unusual"
	}
	return "broken"
}

// logHandler writes records as "message key=value" into a queue.
type logHandler struct {
	queue *patient.Queue[logLine]
	attrs string // of WithAttrs, formatted
	group string // names of WithGroup, each followed by a dot
}

var _ slog.Handler = logHandler{}

func newLogger(queue *patient.Queue[logLine]) *slog.Logger { return slog.New(logHandler{queue: queue}) }

// Enabled lets every level pass: lightningd's own log-level decides what is shown.
func (h logHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		appendAttr(&b, h.group, a)
		return b.Len() < maxLogLine
	})
	message := b.String()
	if len(message) > maxLogLine {
		message = message[:maxLogLine-3] + "..."
	}
	h.queue.Put(logLine{levelName(r.Level), text.ASCII(message)})
	return nil
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, a := range attrs {
		appendAttr(&b, h.group, a)
	}
	h.attrs = b.String()
	return h
}

func (h logHandler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.group += name + "."
	}
	return h
}

func appendAttr(b *strings.Builder, group string, a slog.Attr) {
	value := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range value.Group() {
			appendAttr(b, group, member)
		}
		return
	}
	shown := value.String()
	if shown == "" || strings.ContainsAny(shown, " =\t\n") {
		shown = "'" + shown + "'"
	}
	fmt.Fprintf(b, " %s%s=%s", group, a.Key, shown)
}

// debugWriter passes what glightning writes with package log on to slog.
type debugWriter struct{ log *slog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug("glightning: " + strings.TrimSpace(string(p)))
	return len(p), nil
}
