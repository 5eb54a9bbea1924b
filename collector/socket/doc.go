// Package socket receives datagrams on a unix socket, with the credentials of
// their senders where the system supplies them.
//
// Senders never wait: a datagram for which the kernel's queue has no room is lost,
// and nobody is told. So one thread (reader) does nothing but move datagrams from
// that queue into a larger one of our own (ring), from which the decoder takes
// them. Waking a thread costs more than reading a datagram, for the sender too, so
// where the queue is long enough the reader lets datagrams gather (waiter), and it
// wakes the decoder only every handOverTime. Flooded says when datagrams still come
// too fast (load).
//
// The kernel does not say what it has refused, but the reader sees the signs: the
// queue at its limit or, computed from what the kernel charges for each datagram
// (charges), a sender's buffer that is full. Status counts both.
//
// A Receiver keeps its socket in place: it binds again if the file is removed, and
// never touches a file that is not its own.
//
// The package takes a path and gives Datagrams, by Take. The ring has ringSize
// bytes, for datagrams of up to maxDatagram bytes. Status counts those for which
// it had no room, and those of users who may not send.
//
// Linux supplies credentials and reads many datagrams in one call; elsewhere the
// senders are unknown (socket_other.go).
package socket
