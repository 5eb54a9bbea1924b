// Package collector receives trace spans on a unix datagram socket and exports
// them over OTLP.
//
// A span goes down one street, from room to room, and never back. decoder.go is the
// street; read the packages in its order. The comment of each says what it takes and
// gives, and what it bounds:
//
//	socket     receives the datagram and its sender's credentials
//	zipkin     decodes it into a span
//	process    finds out which process sent it
//	cln        says what it is about: an RPC method, a database statement
//	parents    notices whether its parent comes
//	policy     says what of it may be shown and, at the end, whether it may leave
//	memory     has room for it, or not
//	stats      counts it
//	metrics    counts it for OTLP metrics, if they are wanted
//	correlate  finds the spans that belong to it
//	payments   knows which payment or forward it is about, from notifications
//	align      joins notifications to spans, by order and time
//	recorder   keeps its trace, if that is slow, failed or new enough, to be looked at
//	export     sends it to an OTLP endpoint
//	spool      keeps it on disk while the endpoint is away
//
// Each datagram goes through the rooms from zipkin to memory by itself, and those
// that were received together enter stats, metrics, correlate and export together. A
// span is counted when it comes, before anything waits. Spans that correlate adds get
// their room in memory when they come out of it. Export releases the room of a span
// when the endpoint or the spool has it; policy and memory are rooms below the others,
// which know nothing of them.
//
// lightningd's notifications enter at payments (intake.go), which joins them to spans
// by align; a span waits there for at most a second. What is made of them
// goes the rest of the way like other spans.
//
// Beside the street stand, in the order in which they come into a run:
//
//	version    says which clntrace this is
//	help       is what it says about itself by hand
//	options    is the one table of what can be set, and reads it
//	collect    runs the collector without lightningd
//	demo       plays a recorded node through all of it
//	recording  holds the recordings
//	voice      knows how options and commands are called where clntrace runs
//	probe      finds out which system calls may be made
//	otlp       knows endpoints: how to connect, and what answers and failures mean
//	patient    is a queue before somebody who may be slow
//	text       makes text from outside fit to show
//	defect     turns panics into errors
//
// One thing goes against the direction: while the socket is flooded, decoding and
// exporting hold back (flood.go).
//
// Each room knows the types that it takes and gives, and nothing of the rooms
// before it. The Collector opens the rooms (collector.go), gathers what they know for
// Stats (report.go) and says what is wrong (diagnose.go). Each room bounds what it
// holds. A span for which there is no room is dropped and counted, and at every moment
// every span is in exactly one counter.
//
// The collector knows nothing of lightningd's JSON-RPC: that is package plugin.
package collector
