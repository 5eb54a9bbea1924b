// Package socket receives datagrams on a unix socket, with the credentials of
// their senders where the system supplies them.
//
// The senders never wait: a datagram for which the kernel's queue has no room
// is gone, and nobody is told. So one thread does nothing but empty that queue
// (reader) into a larger one of our own (ring), and whoever decodes takes from
// there. To wake and be woken costs more than to read, for the senders too: the
// reader lets datagrams gather where the queue is long enough, and wakes the
// decoder every handOverTime.
// It tells by Flooded when that is not enough. A Receiver keeps its socket in
// place: it binds anew when somebody removes the file, and leaves alone what is
// not its own.
//
// What the reader finds tells what the kernel has refused: it finds the queue
// at its limit, or, by what the kernel charges for a datagram (charges), the
// buffer of a sender. Status counts both.
//
// It gets a path and gives Datagrams, by Take. The ring has ringSize bytes and
// takes datagrams of up to maxDatagram; what finds no room there is counted in
// Status, and so are the senders who are refused.
//
// Linux supplies credentials and lets a batch be read in one call
// (socket_linux.go); elsewhere the senders are not known (socket_other.go).
//
// The next room is zipkin.
package socket
