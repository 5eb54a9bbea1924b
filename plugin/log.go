package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

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

// logQueue holds log lines until lightningd takes them. Logging never blocks:
// lines beyond maxLogLines are dropped and counted.
type logQueue struct {
	lines   chan logLine
	dropped atomic.Uint64
	quit    chan struct{}
	done    chan struct{}
}

func newLogQueue() *logQueue {
	return &logQueue{
		lines: make(chan logLine, maxLogLines),
		quit:  make(chan struct{}),
		done:  make(chan struct{}),
	}
}

func (q *logQueue) put(l logLine) {
	select {
	case q.lines <- l:
	default:
		q.dropped.Add(1)
	}
}

// run passes lines to write, which may block, until close.
func (q *logQueue) run(write func(level, message string)) {
	defer close(q.done)
	for {
		select {
		case l := <-q.lines:
			q.write(l, write)
		case <-q.quit:
			for {
				select {
				case l := <-q.lines:
					q.write(l, write)
				default:
					return
				}
			}
		}
	}
}

func (q *logQueue) write(l logLine, write func(level, message string)) {
	write(l.level, l.message)
	if n := q.dropped.Swap(0); n > 0 {
		write(levelName(slog.LevelWarn), fmt.Sprintf("%d log lines were dropped, because lightningd did not read them", n))
	}
}

// close lets run write the lines that are left, until ctx is done.
func (q *logQueue) close(ctx context.Context) {
	close(q.quit)
	select {
	case <-q.done:
	case <-ctx.Done():
	}
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

// logHandler writes records as "message key=value" into a logQueue.
type logHandler struct {
	queue *logQueue
	attrs string // of WithAttrs, formatted
	group string // names of WithGroup, each followed by a dot
}

var _ slog.Handler = logHandler{}

func (q *logQueue) logger() *slog.Logger { return slog.New(logHandler{queue: q}) }

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
	h.queue.put(logLine{levelName(r.Level), text.ASCII(message)})
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
	text := value.String()
	if text == "" || strings.ContainsAny(text, " =\t\n") {
		text = "'" + text + "'"
	}
	fmt.Fprintf(b, " %s%s=%s", group, a.Key, text)
}

// debugWriter passes what glightning writes with package log on to slog.
type debugWriter struct{ log *slog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug("glightning: " + strings.TrimSpace(string(p)))
	return len(p), nil
}
