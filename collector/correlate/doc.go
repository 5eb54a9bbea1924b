// Package correlate finds out which spans belong together although their
// senders did not know it.
//
// lightningd gives every request of a plugin a trace of its own, so one payment
// is a dozen traces. What they have in common is the path in their ids (package
// cln). The Correlator computes trace, span and parent ids from the path
// alone, so no span has to wait for another, and the spans of all processes fit
// together in whatever order they come. It adds links where ids cannot be changed
// or do not suffice. It repairs cut spans with the help of their relatives.
//
// The package takes Spans in the order of arrival and gives the same ones, with
// ids and links, and those that it has added. Cut spans wait for repairWait at most,
// and requests, to be paired with lightningd's work on them (pair.go), for pairWait.
// lightningd's commands and the spans below them wait for nestWait at most for the
// request that they served, whose trace they join (nest.go).
// The root of a request is added when the request has been quiet and nothing of it is
// known to be open (evidence.go). It keeps at most maxRequests requests, maxCommands
// commands of each of maxNodes nodes, maxCandidates spans that might be linked to
// and maxLinks links of a span.
package correlate
