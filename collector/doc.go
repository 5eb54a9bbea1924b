// Package collector takes trace spans from a unix datagram socket to OTLP.
//
// A span goes one way through it, from room to room. Read the packages in this
// order; each says at its end what it bounds and which is next:
//
//	socket     receives the datagram and its sender's credentials
//	zipkin     decodes it into a span
//	process    says which process sent it
//	request    reads the path that is a request's id
//	detail     says what a span is about: an RPC method, a database statement
//	correlate  says which other spans belong to it
//	stats      counts it
//	metrics    counts it for OTLP, if wanted
//	export     sends it to an OTLP endpoint
//	spool      keeps it on disk while that is away
//
// Beside the way lie recording, two real recordings, and demo, which plays them
// through all of it; text, which makes others' text fit to show; and defect,
// which makes errors of panics. Against the way goes one thing: while the socket
// is flooded, decoding and exporting hold back (flood.go).
//
// Each room knows the type it gets and the type it gives, and nothing of those
// before it. The Collector is the corridor: it opens the rooms, carries spans
// between them in one goroutine (decoder), and answers what tracestats asks
// (report.go). What it holds is bounded room by room; what finds no room is
// counted, and every span is in exactly one count at every moment.
//
// It knows nothing of lightningd's JSON-RPC: that is package plugin, the last
// of the tour. The first room is socket.
package collector
