package correlate

import (
	"strings"
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
	// maxWrappers bounds the processes between lightningd and its plugin that are
	// looked at.
	maxWrappers = 4
)

// node is what is known of one run of lightningd: only its own commands serve the
// requests of its plugins.
type node struct {
	run      Run
	scope    scope
	commands commands
	streams  *simplelru.LRU[*process.Identity, *stream] // by plugin
	pairings map[string][]pairing                       // that have not been paired, by method, in the order of their ends
	effort   int                                        // how many comparisons pairing may take until it is tried again
	changes  uint64                                     // of what pairing looks at
	plugins  map[string]*process.Identity               // by the name in their requests; nil: unknown
	// forgotten is the highest number of a request of which it is not known any more
	// that it has a root. Those before it may have one too.
	forgotten uint64
	heard     time.Time // when its last command came; zero: never
}

// notePlugin records which process the plugin of that name is.
func (n *node) notePlugin(name string, p *process.Identity) {
	if len(n.plugins) >= maxStreams {
		clear(n.plugins)
	}
	n.plugins[strings.Clone(clip(name))] = p
}

// nodes tells runs of lightningd apart that send to one socket.
type nodes struct {
	own     Run  // zero: unknown
	certain bool // own is lightningd, and not a wrapper
	ids     *ids
	known   *simplelru.LRU[Run, *node]
	parent  func(Run) Run // of a process; may be nil
	parents map[Run]Run   // those that have been asked for
}

func newNodes(o Options, ids *ids) *nodes {
	known, err := simplelru.NewLRU[Run, *node](maxNodes, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &nodes{own: o.Run, certain: o.RunIsCertain, ids: ids, known: known, parent: o.Parent, parents: make(map[Run]Run)}
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
	if found := n.above(parent); found != nil {
		return found
	}
	heard, several := n.heard(now)
	switch {
	case several:
		return n.get(parent)
	case heard != nil:
		return heard
	case n.own != (Run{}):
		return n.get(n.own)
	}
	return n.get(parent)
}

// above returns the first node among the process of that run and those that started it,
// such as the shell of a plugin's wrapper; nil: there is none.
func (n *nodes) above(run Run) *node {
	for range maxWrappers {
		if run == (Run{}) {
			return nil
		}
		if n.isOwn(run) {
			return n.get(run)
		}
		if known, ok := n.known.Get(run); ok && !known.heard.IsZero() {
			return known
		}
		run = n.parentOf(run)
	}
	return nil
}

// isOwn reports whether the run is certain to be that of the node that started us.
func (n *nodes) isOwn(run Run) bool { return n.certain && run == n.own }

// parentOf returns the run of the process that started that one; zero: unknown.
func (n *nodes) parentOf(run Run) Run {
	if n.parent == nil {
		return Run{}
	}
	parent, ok := n.parents[run]
	if !ok {
		if len(n.parents) >= maxStreams {
			clear(n.parents)
		}
		parent = n.parent(run)
		n.parents[run] = parent
	}
	return parent
}

// heard returns a node that is heard, and whether there are several. Our own one is
// heard from the start.
func (n *nodes) heard(now time.Time) (heard *node, several bool) {
	if n.certain {
		heard = n.get(n.own)
	}
	for _, known := range n.known.Values() {
		if known == heard || known.heard.IsZero() || now.Sub(known.heard) > heardFor {
			continue
		}
		if heard != nil {
			return nil, true
		}
		heard = known
	}
	return heard, false
}
