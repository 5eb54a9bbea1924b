package otlp

import (
	"net/url"
	"slices"
	"strings"

	"clntrace/collector/voice"
)

// Explain says in plain words why a request was not taken: the cause, the remedy, and
// the original reason.
func (f *Failure) Explain(v voice.Voice) string {
	if f.Complete {
		return f.Reason
	}
	for _, m := range meanings {
		if f.signal != nil && m.applies(f) {
			return strings.NewReplacer(
				"%PROXY%", f.to.proxy(f.via), "%SPANS%", f.signal.noun, "%TRACES%", f.signal.pipeline, "%PATH%", f.signal.path,
			).Replace(v.Say(m.text)) + ". The error: " + f.Reason
		}
	}
	if f.Kind == Unavailable {
		return f.Reason + v.Say(". Start the endpoint or correct {otlp-endpoint}")
	}
	return f.Reason + ". Correct what it complains about"
}

// meaning is what reasons of one kind mean, and what to do. It goes by the text of the
// reason, because gRPC leaves nothing else of an error; the tests check the texts
// against real connections. A reason that is not known, or that a later version of a
// library words differently, is shown as it is.
type meaning struct {
	signs []string            // the reason contains one of them
	when  func(*Failure) bool // nil: always
	// text is cause and remedy, in the form of voice.Say. %PROXY% stands for the
	// proxy's host, and %SPANS%, %TRACES% and %PATH% for what is sent.
	text string
}

func (m meaning) applies(f *Failure) bool {
	return slices.ContainsFunc(m.signs, func(sign string) bool { return strings.Contains(f.Reason, sign) }) &&
		(m.when == nil || m.when(f))
}

// noConnection are signs of a dial that failed.
var noConnection = []string{"connection refused", "no such host", "zero addresses", "i/o timeout", "no route to host", "network is unreachable"}

// brokenOff are signs of a connection that the other side closed at once, or on
// which it spoke first. The wording depends on when net/http notices.
var brokenOff = []string{"connection reset by peer", "broken pipe", "EOF", "use of closed network connection", "malformed HTTP response", "readLoopPeekFailLocked"}

// timedOut are signs of an answer that did not come.
var timedOut = []string{"DeadlineExceeded", "deadline exceeded", "Client.Timeout", "handshake timeout", "i/o timeout", "request canceled"}

// meanings are tried in this order, the specific before the general.
var meanings = []meaning{
	{[]string{"proxyconnect"}, nil, proxyAdvice},
	{noConnection, func(f *Failure) bool { return f.to.proxy(f.via) != "" }, proxyAdvice},
	{[]string{"connect handshake"}, nil, "the proxy %PROXY% (HTTPS_PROXY in the environment) does not let it through. Name the endpoint's host in NO_PROXY, or allow it there"},

	{[]string{"no such file or directory"}, unixSocket, "there is no such socket. Start the backend, or correct {otlp-endpoint}"},
	{[]string{"permission denied"}, unixSocket, "clntrace's user may not write to that socket. Give it the right"},
	{[]string{"connection refused"}, withoutPort, "nothing is listening there, and {otlp-endpoint} names no port, so the web's port was tried. Add the port: usually 4317 for grpc, 4318 for http/protobuf"},
	{[]string{"connection refused"}, nil, "nothing is listening there. Start the backend or correct {otlp-endpoint}; 'off' if {statistics} is all you want"},
	{[]string{"no such host", "zero addresses"}, nil, "the host's name is not known. Correct it in {otlp-endpoint}, or look at the DNS of this machine or container"},
	{[]string{"server misbehaving", "lookup "}, nil, "the DNS of this machine or container does not answer. Fix that, or write the address into {otlp-endpoint}"},
	{[]string{"connect: operation not permitted"}, nil, "a firewall or a sandbox of this host forbids the connection. Allow it, in systemd with IPAddressAllow= in lightningd's unit"},
	{[]string{"no route to host", "network is unreachable"}, nil, "there is no way to that host. Look at the network of this machine or container, or correct {otlp-endpoint}"},

	{[]string{"frame header looked like an HTTP/1.1 header"}, nil, "it speaks HTTP and not gRPC. [Set {otlp-protocol}=http/protobuf, or name|Name] the port for gRPC, usually 4317"},
	{[]string{"first record does not look like a TLS handshake"}, nil, "it does not speak TLS. Write http://host:port in {otlp-endpoint} if you trust the network in between, or turn TLS on there"},
	{[]string{"unknown authority"}, nil, "its certificate is signed by a CA that is not trusted here. [Name that CA's file in {otlp-ca-file}|Have this machine trust that CA, or write http:// in {otlp-endpoint} if you trust the network in between]"},
	{[]string{"has expired or is not yet valid"}, nil, "its certificate is out of date. Renew it there, or set this machine's clock right"},
	{[]string{"certificate is valid for", "doesn't contain any IP SANs", "not valid for any names"}, nil, "its certificate is for another name. Write a name that it is for in {otlp-endpoint}"},
	{[]string{"certificate required", "bad certificate", "unknown certificate"}, nil, "it wants a client certificate that it trusts. [Set {otlp-cert-file} and {otlp-key-file}|Name another port in {otlp-endpoint}, for this command has none]"},
	{[]string{"use of closed network connection"}, func(f *Failure) bool { return f.via == ProtocolGRPC }, silence},
	{[]string{"server preface: EOF", "server preface: read tcp", "server preface: connection reset", "server preface: broken pipe"}, plaintext,
		"it ends the connection at once, as a port for TLS does. Write https:// in {otlp-endpoint}, or correct the port"},
	{brokenOff, func(f *Failure) bool { return f.via == ProtocolHTTP && plaintext(f) },
		"it broke the connection off, as a port for gRPC or TLS does. [For gRPC, usually at port 4317, set {otlp-protocol}=grpc; for|For] TLS write https:// in {otlp-endpoint}; else look at its log if this lasts"},
	{brokenOff, func(f *Failure) bool { return f.to.tls },
		"it broke the connection off. [If it wants a client certificate that it trusts, set {otlp-cert-file} and {otlp-key-file}; else look|Look] at its log if this lasts"},
	{[]string{"server preface"}, nil, "it does not answer as gRPC does. Correct the port in {otlp-endpoint}, usually 4317"},
	{timedOut, nil, silence},
	{brokenOff, nil, "it broke the connection off. Look at its log if this lasts"},

	{[]string{"Unauthenticated", "HTTP 401"}, nil, "it wants credentials, or other ones. [Set them in {otlp-headers}, such as authorization=Bearer%20TOKEN|Name a port in {otlp-endpoint} that wants none]"},
	{[]string{"PermissionDenied", "HTTP 403"}, nil, "[the credentials in {otlp-headers} may not write %SPANS%. Set others, or give them the right|it lets nobody write %SPANS% without credentials. Name a port in {otlp-endpoint} that wants none]"},
	{[]string{"Unimplemented"}, nil, "it speaks gRPC and takes no %SPANS%. Correct the port in {otlp-endpoint}; if it is the OpenTelemetry Collector, give it a %TRACES% pipeline"},
	{[]string{"larger than max", "HTTP 413"}, nil, "the batch is too large for it. [Lower {batch-size}, or raise|Raise] its limit"},
	{[]string{": a redirect"}, nil, "it redirects, which is not followed. Set {otlp-endpoint} to where it leads"},
	{[]string{"but with a web page"}, nil, "this is no OTLP endpoint. Correct {otlp-endpoint}"},
	{[]string{"HTTP 404", "HTTP 405"}, forTracesAlone, "it takes no %SPANS% at that path. OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is: correct its port (usually 4318) and path (usually /v1/traces)"},
	{[]string{"HTTP 404", "HTTP 405"}, nil, "it takes no %SPANS% at that path. They go to {otlp-endpoint} with %PATH% added: correct its port (usually 4318) and path"},
	{[]string{"HTTP 400"}, plaintext, "it did not understand the request. If it wants TLS write https:// in {otlp-endpoint}, else look at its log"},
	{[]string{"ResourceExhausted", "HTTP 429"}, nil, "a limit of it is reached. [Send less ({sample-ratio}, {drop-spans}), or raise|Raise] the limit"},
	{[]string{"HTTP 502", "HTTP 503", "HTTP 504"}, nil, "it, or a proxy before it, is not ready. Look at its log if this lasts"},
	{[]string{"Internal: ", "Unknown: ", "HTTP 500"}, nil, "it reports an error of its own. Look at its log"},
}

// silence is also the advice if gRPC says that the connection was closed: clntrace
// has closed it, after the timeout.
const silence = "it did not answer [within {otlp-timeout}|in time]. Look at its load and log, and at firewalls in between"

const proxyAdvice = "the proxy %PROXY% (HTTPS_PROXY or HTTP_PROXY in the environment) cannot be reached. Correct the variable, or name the endpoint's host in NO_PROXY"

func unixSocket(f *Failure) bool { return f.to.unix }

func forTracesAlone(f *Failure) bool { return f.to.whole && f.signal == Spans }

func plaintext(f *Failure) bool { return !f.to.tls && !f.to.unix }

// withoutPort reports whether the endpoint names no port, so that parseURL has
// added that of the scheme.
func withoutPort(f *Failure) bool {
	u, err := url.Parse(f.to.raw)
	return err == nil && u.Host != "" && u.Port() == ""
}
