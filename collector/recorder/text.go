package recorder

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"clntrace/collector/text"
)

// plain makes foreign text harmless for a terminal, and for lists and trees: ASCII
// that is one column wide.
func plain(s string) string {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' {
			return strings.Map(func(r rune) rune {
				if r > '~' {
					return '?'
				}
				return r
			}, text.Plain(s))
		}
	}
	return s
}

// clip returns plain text in at most width columns, and shows that it was cut.
func clip(s string, width int) string {
	switch {
	case len(s) <= width:
		return s
	case width < 1:
		return ""
	}
	return s[:width-1] + "~"
}

// snip returns the first width characters of plain text.
func snip(s string, width int) string { return s[:min(len(s), width)] }

// wrap breaks plain text at blanks into lines of at most width columns.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		for len(word) > width { // nothing can be done but to break it
			if line != "" {
				lines, line = append(lines, line), ""
			}
			lines, word = append(lines, word[:width]), word[width:]
		}
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// millis is v milliseconds.
func millis(v float64) time.Duration {
	return time.Duration(min(max(v*float64(time.Millisecond), math.MinInt64/2), math.MaxInt64/2))
}

// micros is v microseconds.
func micros(v int64) time.Duration { return millis(float64(v) / 1000) }

// span writes a time with three digits and a suitable unit, in at most 6 columns.
func span(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	const year = 365 * day
	switch us := float64(d) / 1e3; {
	case us < 999.5:
		return fmt.Sprintf("%s%.0fus", sign, us)
	case us < 999.5e3:
		return sign + digits(us/1e3, 3-len(sign)) + "ms"
	case d < time.Minute:
		return sign + digits(us/1e6, 3-len(sign)) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%s%dm%02ds", sign, d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%s%dh%02dm", sign, d/time.Hour, d%time.Hour/time.Minute)
	case d < 100*day:
		return fmt.Sprintf("%s%dd%02dh", sign, d/day, d%day/time.Hour)
	case d < year*10:
		return fmt.Sprintf("%s%dd", sign, d/day)
	}
	return fmt.Sprintf("%s%dy", sign, d/year)
}

// digits writes that many digits of a number below 1000.
func digits(v float64, n int) string {
	for places := n - 1; places > 0; places-- {
		if s := strconv.FormatFloat(v, 'f', places, 64); len(s) <= n+1 {
			return s
		}
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// short writes a count in at most 5 columns.
func short(n int) string {
	switch {
	case n < 100_000:
		return strconv.Itoa(n)
	case n < 10_000_000:
		return strconv.Itoa(n/1000) + "k"
	}
	return strconv.Itoa(n/1_000_000) + "M"
}
