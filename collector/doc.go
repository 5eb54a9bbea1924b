// Package collector receives trace spans on a unix datagram socket and exports
// them over OTLP.
//
// A span passes through it in one direction, from room to room. Read the packages
// in this order; the comment of each says what it takes and gives, what it bounds,
// and which is next:
//
//	socket     receives the datagram and its sender's credentials
//	zipkin     decodes it into a span
//	process    finds out which process sent it
//	cln        says what it is about: an RPC method, a database statement
//	correlate  finds the spans that belong to it
//	stats      counts it
//	metrics    counts it for OTLP metrics, if they are wanted
//	export     sends it to an OTLP endpoint
//	spool      keeps it on disk while the endpoint is away
//
// Four packages stand beside that path: recording holds two real recordings, and
// demo plays them through all of it; text makes text from outside fit to show;
// defect turns panics into errors. One thing goes against the direction: while
// the socket is flooded, decoding and exporting hold back (flood.go).
//
// Each room knows the types that it takes and gives, and nothing of the rooms
// before it. The Collector is the corridor: it opens the rooms, carries spans
// between them in one goroutine (decoder), and reports on them (report.go). Each
// room bounds what it holds. A span for which there is no room is dropped and
// counted, and at every moment every span is in exactly one counter.
//
// The collector knows nothing of lightningd's JSON-RPC: that is package plugin,
// the last of the tour. The first room is socket.
package collector
