package policy

import (
	"strings"
	"sync/atomic"
)

// IdleMinutes is for how many minutes of traffic a pattern has matched nothing when it is
// Unmatched: lightningd's rarest regular spans come every few minutes.
const IdleMinutes = 10

// patterns are those of spans to drop. They know which of them match anything.
type patterns []*pattern

// pattern is text with * for any text. Regular expressions would take some 100 ns for
// each span.
type pattern struct {
	text  string
	parts []string     // between the stars
	hit   atomic.Bool  // in this minute of traffic
	idle  atomic.Int32 // minutes of traffic without a hit, of which the first may have been shorter
}

func newPatterns(texts []string) (list patterns) {
	for _, text := range texts {
		list = append(list, &pattern{text: text, parts: strings.Split(text, "*")})
	}
	return list
}

// match reports whether a pattern matches any of the names of a span. Each that does is
// noted, so that one that others cover is not told to match nothing.
func (p patterns) match(names []string) (matched bool) {
	for _, one := range p {
		if matched && one.hit.Load() {
			continue // nothing new
		}
		for _, name := range names {
			if one.matches(name) {
				matched = true
				one.hit.Store(true)
				break
			}
		}
	}
	return matched
}

func (p *pattern) matches(name string) bool {
	first, last := p.parts[0], p.parts[len(p.parts)-1]
	if len(p.parts) == 1 {
		return name == first
	}
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	rest := name[len(first) : len(name)-len(last)]
	for _, part := range p.parts[1 : len(p.parts)-1] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return true
}

// minute ends a minute of traffic.
func (p patterns) minute() {
	for _, one := range p {
		if one.hit.Swap(false) {
			one.idle.Store(0)
		} else {
			one.idle.Add(1)
		}
	}
}

func (p patterns) unmatched() (list []string) {
	for _, one := range p {
		if !one.hit.Load() && one.idle.Load() > IdleMinutes {
			list = append(list, one.text)
		}
	}
	return list
}
