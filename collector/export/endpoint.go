package export

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// Protocol is the OTLP transport.
type Protocol string

// The transports, by the names the OpenTelemetry specification gives them.
const (
	ProtocolGRPC Protocol = "grpc"
	ProtocolHTTP Protocol = "http/protobuf"
)

// Compression is the compression of export requests.
type Compression string

// The compressions that every OTLP receiver understands.
const (
	CompressionNone Compression = "none"
	CompressionGzip Compression = "gzip"
)

// Endpoint is where OTLP goes. The zero Endpoint is off: nothing is exported.
type Endpoint struct {
	raw  string
	host string // host:port, or the path of a unix socket
	path string // of the URL, for http/protobuf
	// whole says that spans go to path itself, and not to /v1/traces below it.
	whole bool
	tls   bool
	unix  bool
}

// maxUnixPath is the longest path of a unix socket on Linux, in bytes.
const maxUnixPath = 107

// OffEndpoint exports nothing.
var OffEndpoint = Endpoint{}

// DefaultEndpoint is where an OpenTelemetry Collector on this host listens by
// default.
func DefaultEndpoint(p Protocol) Endpoint {
	host := "localhost:4317"
	if p == ProtocolHTTP {
		host = "localhost:4318"
	}
	return Endpoint{raw: "http://" + host, host: host}
}

// errEndpointForm says what is allowed; it ends every error about an endpoint.
var errEndpointForm = errors.New("allowed are http://host:port, https://host:port, unix:///path, host:port, or off")

// ParseEndpoint reads an endpoint as an operator writes it: http://host:port
// (plaintext), https://host:port (TLS), unix:///path, host:port (TLS unless
// the host is loopback), or off.
func ParseEndpoint(s string) (Endpoint, error) {
	switch {
	case s == "off":
		return OffEndpoint, nil
	case strings.HasPrefix(s, "unix:"):
		path := strings.TrimPrefix(strings.TrimPrefix(s, "unix:"), "//")
		if !strings.HasPrefix(path, "/") {
			return Endpoint{}, fmt.Errorf("a unix endpoint needs an absolute path, as in unix:///run/otel.sock; %w", errEndpointForm)
		}
		if len(path) > maxUnixPath {
			return Endpoint{}, fmt.Errorf("the path has %d bytes, and that of a unix socket at most %d; %w", len(path), maxUnixPath, errEndpointForm)
		}
		return Endpoint{raw: s, host: path, unix: true}, nil
	case strings.Contains(s, "://"):
		return parseURL(s)
	}
	if err := checkHostPort(s); err != nil {
		return Endpoint{}, err
	}
	host, _, _ := net.SplitHostPort(s)
	return Endpoint{raw: s, host: s, tls: !isLoopback(host)}, nil
}

func parseURL(s string) (Endpoint, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Endpoint{}, fmt.Errorf("not a URL; %w", errEndpointForm)
	}
	e := Endpoint{raw: s, host: u.Host, path: u.Path}
	port := "80"
	switch strings.ToLower(u.Scheme) {
	case "http":
	case "https":
		e.tls, port = true, "443"
	default:
		return Endpoint{}, fmt.Errorf("unknown scheme %q; %w", u.Scheme, errEndpointForm)
	}
	if u.User != nil {
		return Endpoint{}, fmt.Errorf("credentials do not belong in the endpoint, put them in a header; %w", errEndpointForm)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return Endpoint{}, fmt.Errorf("an endpoint has no query and no fragment; %w", errEndpointForm)
	}
	if u.Port() == "" && u.Hostname() != "" {
		e.host = net.JoinHostPort(u.Hostname(), port)
	}
	return e, checkHostPort(e.host)
}

func checkHostPort(hostport string) error {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || host == "" {
		return fmt.Errorf("no host and port; %w", errEndpointForm)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n < 1 {
		return fmt.Errorf("port %q is not a number from 1 to 65535; %w", port, errEndpointForm)
	}
	if _, err := netip.ParseAddr(host); err != nil && !isHostName(host) {
		// Without the host: what stands before an @ in it may be a secret.
		return fmt.Errorf("the host is neither a name nor an address; %w", errEndpointForm)
	}
	return nil
}

// isHostName tells whether a resolver would look host up at all. What it would
// not, such as "http//localhost", would else be found out only when spans are to
// be sent. An underscore is in the names of many containers.
func isHostName(host string) bool {
	return !strings.ContainsFunc(host, func(r rune) bool {
		return r <= unicode.MaxASCII && !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '.' && r != '_'
	})
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// ForTracesAlone returns e as if it came from the variable that is for traces alone:
// with http/protobuf, the OpenTelemetry specification says, its URL is used as it
// is.
func (e Endpoint) ForTracesAlone() Endpoint {
	e.whole = strings.Contains(e.raw, "://") && !e.unix
	return e
}

// HasPath reports whether e has a path, for which gRPC has no use.
func (e Endpoint) HasPath() bool { return strings.Trim(e.path, "/") != "" }

// Off reports whether nothing is to be exported.
func (e Endpoint) Off() bool { return e.raw == "" }

// String is the endpoint as it was written.
func (e Endpoint) String() string {
	if e.Off() {
		return "off"
	}
	return e.raw
}

// PlaintextRemote reports whether spans would cross a network unencrypted.
func (e Endpoint) PlaintextRemote() bool {
	if e.Off() || e.tls || e.unix {
		return false
	}
	host, _, _ := net.SplitHostPort(e.host)
	return !isLoopback(host)
}
