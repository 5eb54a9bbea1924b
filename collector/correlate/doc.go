// Package correlate finds out which spans belong together although their
// senders did not know it.
//
// lightningd gives every request to a plugin a trace of its own, so that one
// payment is a dozen traces. What they have in common is the path in their id
// (package request), and the Correlator computes trace, span and parent ids
// from that alone: nothing waits, and each process's spans fall into place in
// whatever order they come. Where ids cannot be changed or do not suffice it
// adds links. It repairs spans that were cut, by their relatives, and counts
// children whose parent never came.
//
// It gets Spans in the order of arrival and gives the same ones, with ids and
// links, and those that it added. Only a cut span waits, for repairWait; the root
// of a request is added when the request has been quiet. At most maxRequests
// requests, maxCandidates spans that might be linked to, maxLinks links of a span
// and maxAwaited parents are kept; the oldest go first.
//
// The next room is stats.
package correlate
