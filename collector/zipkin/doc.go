// Package zipkin reads the datagrams that lightningd and its plugins send, one
// completed span each, in the Zipkin v2 JSON form of common/trace.c.
//
// That form is written with snprintf: the fields always come in the same
// order, nothing is escaped, and what exceeds 2,047 bytes is cut and ended
// with a NUL. So a JSON parser refuses exactly the spans that are worth most,
// the long and the odd ones. The Decoder reads the fixed parts from both ends
// and takes whatever stands between as text. Only what does not have that form
// goes to encoding/json.
//
// It gets a datagram's bytes and gives a Span, or an error that says why there
// is none. Strings that come again are shared between spans; maxInterned bytes
// of them are remembered.
//
// The next room is process.
package zipkin
