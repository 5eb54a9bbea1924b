// Package payments knows what becomes of payments and forwards: which part of which
// payment is open, over which channels it went, why it failed, how long a forward
// waited here and how long further on.
//
// lightningd's notifications say that, and its spans do not; but the spans are in
// the traces, and only they have the time at which a forward was offered on. So the
// Tracker takes both, each in the order of arrival, joins them with package align,
// and gives
//
//   - spans that had to wait for their notification, with what it said (Joined);
//   - spans that nobody sends: forwards with their phases, payments, paid invoices
//     (Span);
//   - observations for statistics (Observation), and what is open (State, Open);
//   - what is known of the payment that a request makes: whether a part of it is
//     open, and whether it failed (Request).
//
// It reads no clock and starts no goroutine. It holds maxParts, maxPayments,
// maxRequests and maxForwards; the oldest make room, and are counted as dropped.
// Preimages, invoices and labels never come here: package cln reads past them.
//
// What may leave the node is said by the Mode, and by the class of each Attribute.
package payments
