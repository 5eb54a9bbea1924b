package correlate

import "time"

const (
	linkWindow    = 60 * time.Second // longest time between a span and one that it links to
	maxCandidates = 10000            // kept to be linked to, for each kind of link
)

// candidates are things that spans can be linked to, by what both have in common.
// When there are too many the oldest go.
type candidates[K comparable, V any] struct {
	byKey map[K][]candidate[V] // oldest first
	order []age[K]             // oldest first, including some that have been taken
	added uint64
}

type candidate[V any] struct {
	number uint64 // unique
	value  V
}

type age[K comparable] struct {
	key    K
	number uint64
	came   time.Time
}

func newCandidates[K comparable, V any]() *candidates[K, V] {
	return &candidates[K, V]{byKey: make(map[K][]candidate[V])}
}

func (c *candidates[K, V]) add(key K, value V, now time.Time) {
	c.expire(now.Add(-linkWindow))
	if len(c.order) >= maxCandidates {
		c.forgetOldest()
	}
	c.added++
	c.order = append(c.order, age[K]{key, c.added, now})
	c.byKey[key] = append(c.byKey[key], candidate[V]{c.added, value})
}

// take returns and removes the candidates with that key.
func (c *candidates[K, V]) take(key K) []candidate[V] {
	list := c.byKey[key]
	delete(c.byKey, key)
	return list
}

func (c *candidates[K, V]) expire(before time.Time) {
	for len(c.order) > 0 && c.order[0].came.Before(before) {
		c.forgetOldest()
	}
}

func (c *candidates[K, V]) forgetOldest() {
	oldest := c.order[0]
	c.order = c.order[1:]
	list := c.byKey[oldest.key]
	if len(list) == 0 || list[0].number != oldest.number {
		return // it was taken
	}
	if len(list) > 1 {
		c.byKey[oldest.key] = list[1:]
	} else {
		delete(c.byKey, oldest.key)
	}
}
