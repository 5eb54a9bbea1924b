package otlp

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
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
var errEndpointForm = errors.New("must be http://host:port, https://host:port, unix:///path, host:port, or off")

// ParseEndpoint reads an endpoint as an operator writes it: http://host:port
// (plaintext), https://host:port (TLS), unix:///path, host:port (TLS unless
// the host is loopback), or off.
func ParseEndpoint(s string) (Endpoint, error) {
	switch {
	case s == "off":
		return OffEndpoint, nil
	case strings.HasPrefix(s, "unix:"):
		path := strings.TrimPrefix(strings.TrimPrefix(s, "unix:"), "//")
		if !strings.HasPrefix(path, "/") || isDirectory(path) {
			return Endpoint{}, fmt.Errorf("a unix endpoint needs the absolute path of a socket, as in unix:///run/otel.sock; %w", errEndpointForm)
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

// isDirectory tells whether a path can only be that of a directory.
func isDirectory(path string) bool {
	last := path[strings.LastIndexByte(path, '/')+1:]
	return last == "" || last == "." || last == ".."
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
	return strings.Trim(host, "-._") != "" && !strings.ContainsFunc(host, func(r rune) bool {
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

// serverName is the name or address that the endpoint's certificate has to be for.
func (e Endpoint) serverName() string {
	host, _, _ := net.SplitHostPort(e.host)
	host, _, _ = strings.Cut(host, "%") // an address's zone is this machine's business
	return strings.TrimSuffix(host, ".")
}

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

// URL is where a signal goes in OTLP over HTTP: below the endpoint. If that already
// is the whole path for spans, metrics go beside them.
func (e Endpoint) URL(s *Signal) string {
	if e.whole && s == Spans {
		return e.url("/" + strings.TrimPrefix(e.path, "/"))
	}
	return e.url(e.base() + s.path)
}

// base is the path below which each signal has its own path. If the endpoint is for
// spans alone, and not at the usual path, it does not say where metrics go; then
// they go to their usual path.
func (e Endpoint) base() string {
	base, usual := strings.CutSuffix(e.path, tracesPath)
	if e.whole && !usual {
		return ""
	}
	return strings.TrimSuffix(base, "/")
}

func (e Endpoint) url(path string) string {
	u := url.URL{Scheme: "http", Host: e.host, Path: path}
	if e.tls {
		u.Scheme = "https"
	}
	if e.unix {
		u.Host = "localhost"
	}
	return u.String()
}

// proxy is the host of the proxy through which the endpoint is reached, or "".
// gRPC always uses the one for https.
func (e Endpoint) proxy(p Protocol) string {
	if e.Off() || e.unix {
		return ""
	}
	scheme := "https"
	if p == ProtocolHTTP && !e.tls {
		scheme = "http"
	}
	u, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: e.host}})
	if err != nil || u == nil {
		return ""
	}
	return u.Host
}
