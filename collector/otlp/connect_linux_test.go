package otlp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"clntrace/collector/otlp/otlptest"
)

// nameServer knows addresses of every name. Questions for anything else, it never
// answers.
type nameServer struct {
	addresses []netip.Addr

	mu    sync.Mutex
	asked []dnsmessage.Type
}

// resolve makes the process ask this server until the end of the test.
func (n *nameServer) resolve(t *testing.T) {
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe() // no datagrams, so it speaks as over TCP
		go n.serve(far)
		return near, nil
	}}
}

func (n *nameServer) serve(c net.Conn) {
	defer c.Close()
	for {
		var length uint16
		if binary.Read(c, binary.BigEndian, &length) != nil {
			return
		}
		b := make([]byte, length)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b) != nil || len(m.Questions) != 1 {
			return
		}
		answer, err := n.answer(m).Pack()
		if err != nil {
			return
		}
		_, _ = c.Write(binary.BigEndian.AppendUint16(nil, uint16(len(answer))))
		_, _ = c.Write(answer)
	}
}

func (n *nameServer) answer(m dnsmessage.Message) *dnsmessage.Message {
	question := m.Questions[0]
	n.mu.Lock()
	n.asked = append(n.asked, question.Type)
	n.mu.Unlock()
	if question.Type != dnsmessage.TypeA && question.Type != dnsmessage.TypeAAAA {
		select {}
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if question.Type == dnsmessage.TypeA {
		for _, a := range n.addresses {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type, Class: question.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: a.As4()},
			})
		}
	}
	return &m
}

// silentAt makes that port of 127.0.0.2 drop what is sent to it: it listens, and its
// queue is full.
func silentAt(t *testing.T, port int) netip.Addr {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	address := netip.MustParseAddr("127.0.0.2")
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: address.As4()}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(address.String(), strconv.Itoa(port)), 500*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("this kernel's queues are never full")
	return address
}

// A name may have several addresses, of which the first drops what is sent to it; and
// DNS may not answer what nobody needs to know.
func TestNamesThatAreHardToReach(t *testing.T) {
	for protocol, start := range map[Protocol]func(testing.TB, ...otlptest.Answer) *otlptest.Receiver{
		ProtocolGRPC: otlptest.StartGRPC, ProtocolHTTP: otlptest.StartHTTP,
	} {
		t.Run(string(protocol), func(t *testing.T) {
			alive := netip.MustParseAddrPort(start(t).URL[len("http://"):])
			n := &nameServer{addresses: []netip.Addr{silentAt(t, int(alive.Port())), alive.Addr()}}
			n.resolve(t)
			cfg := Config{Endpoint: mustParse(t, "http://collector.test:"+strconv.Itoa(int(alive.Port()))), Protocol: protocol, Timeout: 9 * time.Second}
			begin := time.Now()
			if f := attempt(t, cfg, Spans); f != nil {
				t.Errorf("got %+v", f)
			}
			t.Logf("took %v", time.Since(begin))
			n.mu.Lock()
			defer n.mu.Unlock()
			if slices.Contains(n.asked, dnsmessage.TypeTXT) {
				t.Errorf("DNS was asked for %v", n.asked)
			}
		})
	}
}

// The kernel does not resend for a quarter of an hour.
func TestResendingIsBounded(t *testing.T) {
	c, err := new(sockets).dial(t.Context(), "tcp", otlptest.Listen(t).Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*socket).Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var limit int
	if err := errors.Join(raw.Control(func(fd uintptr) { limit, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }), err); err != nil {
		t.Fatal(err)
	}
	if want := int(resendFor.Milliseconds()); limit != want {
		t.Errorf("the limit is %d ms, want %d", limit, want)
	}
}
