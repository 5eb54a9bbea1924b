package align

import "slices"

// place is a pair by its places in the two streams.
type place struct{ span, note int }

// compare returns the pairs that the rule allows, and those of them without an
// alternative, in order, whether or not the optional ones have a place.
func (a *Aligner[S, N]) compare() (possible, certain []place) {
	possible, certain = a.certain(false)
	if !slices.ContainsFunc(a.notes, func(n item[N]) bool { return n.optional }) {
		return possible, certain
	}
	possible, more := a.certain(true)
	certain = slices.DeleteFunc(certain, func(p place) bool { return !slices.Contains(more, p) })
	return possible, certain
}

// certain returns the pairs that the rule allows, and those of them without an
// alternative, in order. Of the ways to join the two streams in order, consider those
// that join as many as possible. The k-th pair of each of them has k pairs before it,
// so a pair is in all of them if it is the only one that can be the k-th.
func (a *Aligner[S, N]) certain(optional bool) (possible, certain []place) {
	n, m := len(a.spans), len(a.notes)
	grid, possible := a.possible(optional)
	if len(possible) == 0 {
		return nil, nil
	}
	before := longest(n, m, func(i, j int) bool { return grid[i*m+j] })
	behind := longest(n, m, func(i, j int) bool { return grid[(n-1-i)*m+m-1-j] })
	total := before[len(before)-1]
	candidates := make([]int, total) // how many there are for the k-th pair
	pairs := make([]place, total)
	for _, p := range possible {
		k := before[p.span*(m+1)+p.note]
		if k+1+behind[(n-1-p.span)*(m+1)+m-1-p.note] == total {
			candidates[k]++
			pairs[k] = p
		}
	}
	certain = pairs[:0]
	for k, p := range pairs {
		if candidates[k] == 1 {
			certain = append(certain, p)
		}
	}
	return possible, certain
}

// possible returns the pairs that the rule allows, as a table and as a list.
func (a *Aligner[S, N]) possible(optional bool) (grid []bool, list []place) {
	grid = make([]bool, len(a.spans)*len(a.notes))
	for i := range a.spans {
		for j := range a.notes {
			if (optional || !a.notes[j].optional) && a.rule.Match(a.spans[i].value, a.notes[j].value) {
				grid[i*len(a.notes)+j] = true
				list = append(list, place{i, j})
			}
		}
	}
	return grid, list
}

// longest returns a table of n+1 rows and m+1 columns: how many pairs fit at most
// among the first i of one stream and the first j of the other.
func longest(n, m int, possible func(i, j int) bool) []uint16 {
	table := make([]uint16, (n+1)*(m+1))
	for i := range n {
		row, next := table[i*(m+1):], table[(i+1)*(m+1):]
		for j := range m {
			next[j+1] = max(row[j+1], next[j])
			if possible(i, j) {
				next[j+1] = max(next[j+1], row[j]+1)
			}
		}
	}
	return table
}
