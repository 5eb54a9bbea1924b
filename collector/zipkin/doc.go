// Package zipkin decodes the datagrams that lightningd and its plugins send: one
// completed span each, in the Zipkin v2 JSON form of common/trace.c.
//
// lightningd writes that form with snprintf: the fields always come in the same
// order, nothing is escaped, and a datagram of more than 2,047 bytes is cut there
// and ended with a NUL. A JSON parser would refuse exactly the most interesting
// spans, the long and the odd ones. So the Decoder matches the fixed parts from
// both ends and takes whatever stands between them as text. Only datagrams of
// another form go to encoding/json.
//
// The package takes a datagram's bytes and gives a Span, or an error that says why
// it is not one. Strings that recur are shared between spans; at most maxInterned
// bytes of them are kept.
package zipkin
