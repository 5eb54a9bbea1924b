package plugin

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestLogLines(t *testing.T) {
	for _, tt := range []struct {
		name string
		log  func(*slog.Logger)
		want logLine
	}{
		{"levels: debug", func(l *slog.Logger) { l.Debug("m") }, logLine{"debug", "m"}},
		{"levels: info", func(l *slog.Logger) { l.Info("m") }, logLine{"info", "m"}},
		{"levels: warn", func(l *slog.Logger) { l.Warn("m") }, logLine{"unusual", "m"}},
		{"levels: error", func(l *slog.Logger) { l.Error("m") }, logLine{"broken", "m"}},
		{"attributes", func(l *slog.Logger) { l.Info("m", "n", 1, "err", errors.New("no such thing"), "empty", "") },
			logLine{"info", "m n=1 err='no such thing' empty=''"}},
		{"groups", func(l *slog.Logger) { l.With("a", 1).WithGroup("g").With("b", 2).Info("m", slog.Group("h", "c", 3)) },
			logLine{"info", "m a=1 g.b=2 g.h.c=3"}},
		{"one line of ASCII", func(l *slog.Logger) { l.Info("a\nb", "alias", "\u26a1\x1b[2J") }, logLine{"info", "a?b alias=??[2J"}},
		{"long", func(l *slog.Logger) { l.Info(strings.Repeat("x", 10*maxLogLine)) }, logLine{"info", strings.Repeat("x", maxLogLine-3) + "..."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := newLogQueue()
			tt.log(newLogger(q))
			var got logLine
			go q.Run(func(l logLine) { got = l }, nil)
			q.Close(t.Context())
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestDroppedLogLinesAreReported(t *testing.T) {
	q := newLogQueue()
	log := newLogger(q)
	const extra = 10
	for range maxLogLines + extra {
		log.Info("m")
	}
	got := make(map[string]int)
	go passLog(q, func(_, message string) { got[message]++ })
	q.Close(t.Context())
	if got["m"] != maxLogLines || got["10 log lines were dropped, because lightningd did not read them"] != 1 || len(got) != 2 {
		t.Errorf("got %v", got)
	}
}
