package export

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"clntrace/collector/defect"
)

// ExplainOutage says in plain words why the endpoint takes no spans for now: the
// cause, the remedy, and the original reason.
func (c Config) ExplainOutage(reason string) string {
	return c.explain(reason, "Start the endpoint or correct clntrace-otlp-endpoint")
}

// ExplainRefusal says the same about spans that the endpoint refused for good.
func (c Config) ExplainRefusal(reason string) string {
	return c.explain(reason, "Correct what it complains about")
}

// explain goes by the text of the reason, because gRPC leaves nothing else of an
// error; the tests check the texts against real connections. A reason that is not
// known, or that a later version of a library words differently, is shown as it is.
func (c Config) explain(reason, otherwise string) string {
	if strings.Contains(reason, "clntrace-") || strings.Contains(reason, defect.Notice) || reason == noReason {
		return reason // we have worded it
	}
	for _, a := range advices {
		if a.applies(c.Endpoint, c.Protocol, reason) {
			return strings.ReplaceAll(a.text, "%PROXY%", c.Endpoint.proxy(c.Protocol)) + ". The error: " + reason
		}
	}
	return reason + ". " + otherwise
}

// advice says what reasons of one kind mean, and what to do.
type advice struct {
	signs []string                      // the reason contains one of them
	when  func(Endpoint, Protocol) bool // nil: always
	text  string                        // cause and remedy; %PROXY% stands for the proxy's host
}

func (a advice) applies(e Endpoint, p Protocol, reason string) bool {
	return slices.ContainsFunc(a.signs, func(sign string) bool { return strings.Contains(reason, sign) }) &&
		(a.when == nil || a.when(e, p))
}

// noConnection are signs of a dial that failed.
var noConnection = []string{"connection refused", "no such host", "zero addresses", "i/o timeout", "no route to host", "network is unreachable"}

// brokenOff are signs of a connection that the other side closed at once, or on
// which it spoke first. The wording depends on when net/http notices.
var brokenOff = []string{"connection reset by peer", "broken pipe", "EOF", "use of closed network connection", "malformed HTTP response", "readLoopPeekFailLocked"}

// timedOut are signs of an answer that did not come.
var timedOut = []string{"DeadlineExceeded", "deadline exceeded", "Client.Timeout", "handshake timeout", "i/o timeout", "request canceled"}

// advices are tried in this order, the specific before the general.
var advices = []advice{
	{[]string{"proxyconnect"}, nil, proxyAdvice},
	{noConnection, func(e Endpoint, p Protocol) bool { return e.proxy(p) != "" }, proxyAdvice},
	{[]string{"connect handshake"}, nil, "the proxy %PROXY% (HTTPS_PROXY in the environment) does not let it through. Name the endpoint's host in NO_PROXY, or allow it there"},

	{[]string{"no such file or directory"}, unixSocket, "there is no such socket. Start the backend, or correct clntrace-otlp-endpoint"},
	{[]string{"permission denied"}, unixSocket, "clntrace's user may not write to that socket. Give it the right"},
	{[]string{"connection refused"}, withoutPort, "nothing is listening there, and clntrace-otlp-endpoint names no port, so the web's port was tried. Add the port: usually 4317 for grpc, 4318 for http/protobuf"},
	{[]string{"connection refused"}, nil, "nothing is listening there. Start the backend or correct clntrace-otlp-endpoint; 'off' if tracestats is all you want"},
	{[]string{"no such host", "zero addresses"}, nil, "the host's name is not known. Correct it in clntrace-otlp-endpoint, or look at the DNS of this machine or container"},
	{[]string{"server misbehaving", "lookup "}, nil, "the DNS of this machine or container does not answer. Fix that, or write the address into clntrace-otlp-endpoint"},
	{[]string{"connect: operation not permitted"}, nil, "a firewall or a sandbox of this host forbids the connection. Allow it, in systemd with IPAddressAllow= in lightningd's unit"},
	{[]string{"no route to host", "network is unreachable"}, nil, "there is no way to that host. Look at the network of this machine or container, or correct clntrace-otlp-endpoint"},

	{[]string{"frame header looked like an HTTP/1.1 header"}, nil, "it speaks HTTP and not gRPC. Set clntrace-otlp-protocol=http/protobuf, or name the port for gRPC, usually 4317"},
	{[]string{"first record does not look like a TLS handshake"}, nil, "it does not speak TLS. Write http://host:port in clntrace-otlp-endpoint if you trust the network in between, or turn TLS on there"},
	{[]string{"unknown authority"}, nil, "its certificate is signed by a CA that is not trusted here. Name that CA's file in clntrace-otlp-ca-file"},
	{[]string{"has expired or is not yet valid"}, nil, "its certificate is out of date. Renew it there, or set this machine's clock right"},
	{[]string{"certificate is valid for", "doesn't contain any IP SANs", "not valid for any names"}, nil, "its certificate is for another name. Write a name that it is for in clntrace-otlp-endpoint"},
	{[]string{"certificate required", "bad certificate", "unknown certificate"}, nil, "it wants a client certificate that it trusts. Set clntrace-otlp-cert-file and clntrace-otlp-key-file"},
	{[]string{"use of closed network connection"}, func(_ Endpoint, p Protocol) bool { return p == ProtocolGRPC }, silence},
	{[]string{"server preface: EOF", "server preface: read tcp", "server preface: connection reset", "server preface: broken pipe"}, plaintext,
		"it ends the connection at once, as a port for TLS does. Write https:// in clntrace-otlp-endpoint, or correct the port"},
	{brokenOff, func(e Endpoint, p Protocol) bool { return p == ProtocolHTTP && plaintext(e, p) },
		"it broke the connection off, as a port for gRPC or TLS does. For gRPC, usually at port 4317, set clntrace-otlp-protocol=grpc; for TLS write https:// in clntrace-otlp-endpoint; else look at its log if this lasts"},
	{brokenOff, func(e Endpoint, _ Protocol) bool { return e.tls },
		"it broke the connection off. If it wants a client certificate that it trusts, set clntrace-otlp-cert-file and clntrace-otlp-key-file; else look at its log if this lasts"},
	{[]string{"server preface"}, nil, "it does not answer as gRPC does. Correct the port in clntrace-otlp-endpoint, usually 4317"},
	{timedOut, nil, silence},
	{brokenOff, nil, "it broke the connection off. Look at its log if this lasts"},

	{[]string{"Unauthenticated", "HTTP 401"}, nil, "it wants credentials, or other ones. Set them in clntrace-otlp-headers, such as authorization=Bearer%20TOKEN"},
	{[]string{"PermissionDenied", "HTTP 403"}, nil, "the credentials in clntrace-otlp-headers may not write spans. Set others, or give them the right"},
	{[]string{"Unimplemented"}, nil, "it speaks gRPC and takes no spans. Correct the port in clntrace-otlp-endpoint; if it is the OpenTelemetry Collector, give it a traces pipeline"},
	{[]string{"larger than max", "HTTP 413"}, nil, "the batch is too large for it. Lower clntrace-batch-size, or raise its limit"},
	{[]string{"HTTP 404", "HTTP 405"}, forTracesAlone, "it takes no spans at that path. OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is: correct its port (usually 4318) and path (usually /v1/traces)"},
	{[]string{"HTTP 404", "HTTP 405"}, nil, "it takes no spans at that path. Spans go to clntrace-otlp-endpoint with /v1/traces added: correct its port (usually 4318) and path"},
	{[]string{"HTTP 400"}, plaintext, "it did not understand the request. If it wants TLS write https:// in clntrace-otlp-endpoint, else look at its log"},
	{[]string{"ResourceExhausted", "HTTP 429"}, nil, "a limit of it is reached. Send less (clntrace-sample-ratio, clntrace-drop-spans), or raise the limit"},
	{[]string{"HTTP 502", "HTTP 503", "HTTP 504"}, nil, "it, or a proxy before it, is not ready. Look at its log if this lasts"},
	{[]string{"Internal: ", "Unknown: ", "HTTP 500"}, nil, "it reports an error of its own. Look at its log"},
}

// silence is also the advice if gRPC says that the connection was closed: clntrace
// has closed it, after the timeout.
const silence = "it did not answer within clntrace-otlp-timeout. Look at its load and log, and at firewalls in between"

const proxyAdvice = "the proxy %PROXY% (HTTPS_PROXY or HTTP_PROXY in the environment) cannot be reached. Correct the variable, or name the endpoint's host in NO_PROXY"

func unixSocket(e Endpoint, _ Protocol) bool { return e.unix }

func forTracesAlone(e Endpoint, _ Protocol) bool { return e.whole }

func plaintext(e Endpoint, _ Protocol) bool { return !e.tls && !e.unix }

// withoutPort reports whether the endpoint names no port, so that parseURL has
// added that of the scheme.
func withoutPort(e Endpoint, _ Protocol) bool {
	u, err := url.Parse(e.raw)
	return err == nil && u.Host != "" && u.Port() == ""
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
