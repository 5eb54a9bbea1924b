package otlp

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// dialTimeout bounds the wait for a connection. Go divides it among the addresses of a
// name, so that one that drops everything leaves time for the next. The kernel alone
// would try each for two minutes.
const dialTimeout = 10 * time.Second

// resendFor is how long the kernel resends what nobody acknowledges. It matters where
// attempts may take longer than this; the kernel's own limit is a quarter of an hour.
const resendFor = 20 * time.Second

// sockets are the open connections to an endpoint, kept so that they can be given up
// when they are dead and nobody says so: behind a NAT or a load balancer that has
// forgotten them, or when the other side's machine is gone. Over HTTP/2, which gRPC
// uses, requests would go on waiting for answers on such a connection for as long as
// the kernel resends, a quarter of an hour.
//
// Pings are no way to find out: a gRPC server closes the connection if they come more
// often than every five minutes.
type sockets struct {
	patience int // attempts in a row that may time out

	mu   sync.Mutex
	open map[*socket]struct{}
	late int // attempts in a row that have timed out
}

// socket is a connection that its sockets know of until it is closed.
type socket struct {
	net.Conn
	of *sockets
}

// Close closes the connection.
func (s *socket) Close() error {
	s.of.mu.Lock()
	delete(s.of.open, s)
	s.of.mu.Unlock()
	return s.Conn.Close()
}

func (s *sockets) keep(c net.Conn) net.Conn {
	boundResending(c)
	kept := &socket{c, s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*socket]struct{})
	}
	s.open[kept] = struct{}{}
	return kept
}

// ended notes how an attempt ended. If too many in a row have timed out it closes all
// connections, so that the next attempt makes a new one.
func (s *sockets) ended(timedOut bool) {
	s.mu.Lock()
	if !timedOut {
		s.late = 0
		s.mu.Unlock()
		return
	}
	s.late++
	var dead []*socket
	if s.late >= s.patience {
		s.late = 0
		for c := range s.open {
			dead = append(dead, c)
		}
	}
	s.mu.Unlock()
	for _, c := range dead {
		_ = c.Close() // an error says only that it was closed before
	}
}

// dial connects for HTTP.
func (s *sockets) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return s.keep(c), nil
}

// handshakes are transport credentials that let sockets know of gRPC's connections. A
// dialer of our own would do so, too, but would end gRPC's use of proxies.
type handshakes struct {
	credentials.TransportCredentials
	sockets *sockets
}

// ClientHandshake secures a new connection.
func (h handshakes) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	kept := h.sockets.keep(raw)
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, kept)
	if err != nil {
		_ = kept.Close() // as credentials have to
	}
	return conn, info, err
}

// Clone copies the credentials.
func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.sockets}
}
