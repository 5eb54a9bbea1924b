// Package recorder keeps the traces worth looking at in memory, and shows them:
// "why was that payment slow?" answered on the node, without a backend.
//
// It takes finished spans, with what may be shown of them, and assembles them by
// trace id (assembly.go). A trace is decided on when its root was added, or has come
// and nothing has followed for a while. Of each kind of trace it then keeps the
// slowest, the failed and the newest (kind.go), with what served their requests
// (serving.go). All together is bounded in bytes (evict.go): spans are stored without
// pointers (body.go), so that they cost the garbage collector nothing, and what they
// cost in memory is known.
//
// It gives lists of traces and single traces (query.go) in the form of listtraces'
// JSON (answer.go), and draws both as text for a terminal (list.go, tree.go,
// draw.go). A trace from elsewhere can be drawn too, as the demo does.
package recorder
