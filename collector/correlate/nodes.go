package correlate

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"clntrace/collector/process"
)

const (
	// maxNodes bounds the runs of lightningd that are told apart. Each restart of a
	// node is another run.
	maxNodes = 8
	// heardFor is how long after its last command a run counts as one that a sender
	// of unknown origin may belong to.
	heardFor = 10 * time.Minute
)

// node is what is known of one run of lightningd: only its own commands serve the
// requests of its plugins.
type node struct {
	run      Run
	scope    scope
	commands commands
	streams  *simplelru.LRU[*process.Identity, *stream] // by plugin
	pairings map[string][]pairing                       // that have not been paired, by method, oldest first
	plugins  map[string]*process.Identity               // by the name in their requests; nil: unknown
	// forgotten is the highest number of a request of which it is not known any more
	// that it has a root. Those before it may have one too.
	forgotten uint64
	heard     time.Time // when its last command came; zero: never
}

// nodes tells runs of lightningd apart that send to one socket.
type nodes struct {
	own   Run // zero: unknown
	ids   *ids
	known *simplelru.LRU[Run, *node]
}

func newNodes(own Run, ids *ids) *nodes {
	known, err := simplelru.NewLRU[Run, *node](maxNodes, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &nodes{own, ids, known}
}

func (n *nodes) get(run Run) *node {
	if known, ok := n.known.Get(run); ok {
		return known
	}
	added := newNode(run, n.ids.run(run))
	n.known.Add(run, added)
	return added
}

func newNode(run Run, in scope) *node {
	streams, err := simplelru.NewLRU[*process.Identity, *stream](maxStreams, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &node{run: run, scope: in, commands: newCommands(), streams: streams, pairings: make(map[string][]pairing), plugins: make(map[string]*process.Identity)}
}

// sender returns the node whose lightningd p is.
func (n *nodes) sender(p *process.Identity, now time.Time) *node {
	found := n.get(Run{p.PID, p.StartTime})
	found.heard = now
	return found
}

// of returns the node that the plugin p belongs to: the one that started it.
// lightningd works on a request before its plugin sends the span, so the node of a
// request has been heard already. A plugin that had exited before we looked, or that
// another program started, belongs to the only node that is heard; where there are
// several, nobody knows to which.
func (n *nodes) of(p *process.Identity, now time.Time) *node {
	parent := Run{p.ParentPID, p.ParentStartTime}
	if parent != (Run{}) {
		if parent == n.own {
			return n.get(parent)
		}
		if known, ok := n.known.Get(parent); ok && !known.heard.IsZero() {
			return known
		}
	}
	heard, several := n.heard(now)
	switch {
	case several && n.own == (Run{}):
		return n.get(parent)
	case several:
		return n.get(Run{})
	case heard != nil:
		return heard
	case n.own != (Run{}):
		return n.get(n.own)
	}
	return n.get(parent)
}

// heard returns a node that is heard, and whether there are several.
func (n *nodes) heard(now time.Time) (heard *node, several bool) {
	for _, known := range n.known.Values() {
		if known.heard.IsZero() || now.Sub(known.heard) > heardFor {
			continue
		}
		if heard != nil {
			return nil, true
		}
		heard = known
	}
	return heard, false
}
