package otlp

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"clntrace/collector/voice"
)

// Explain says in plain words why a request was not taken: the cause, the remedy, and
// the original reason.
func (f *Failure) Explain(v voice.Voice) string {
	switch {
	case f.Complete:
		return f.Reason
	case f.meaning != nil && f.meaning.text != "":
		return strings.NewReplacer(
			"%PROXY%", f.to.Endpoint.proxy(f.to.Protocol), "%SPANS%", f.signal.noun, "%TRACES%", f.signal.pipeline, "%PATH%", f.signal.path,
		).Replace(v.Say(f.meaning.text)) + ". The error: " + f.Reason
	case f.Kind == Unavailable:
		return f.Reason + v.Say(". Start the endpoint or correct {otlp-endpoint}")
	}
	return f.Reason + ". Correct what it complains about"
}

// meaning is what is heard, what that means for the request, and what to do. Where a
// request found no answer it goes by the text of the reason, because gRPC leaves
// nothing else of an error; the tests check the texts against real connections. A
// reason that is not known, or that a later version of a library words differently, is
// shown as it is.
type meaning struct {
	codes []string            // the answer is one of them; nil: any, or none
	signs []string            // the reason contains one of them; nil: whatever it is
	when  func(*Failure) bool // nil: always
	kind  Kind
	// text is cause and remedy, in the form of voice.Say; "": only the reason is known.
	// %PROXY% stands for the proxy's host, and %SPANS%, %TRACES% and %PATH% for what is
	// sent.
	text string
}

// meaningOf returns the first of the meanings that fits. reason may be longer than that
// of f.
func meaningOf(f *Failure, reason string) *meaning {
	for i := range meanings {
		m := &meanings[i]
		if (m.codes == nil || slices.Contains(m.codes, f.code)) && (m.signs == nil || contains(reason, m.signs)) &&
			(m.when == nil || m.when(f)) {
			return m
		}
	}
	return &meaning{kind: Rejected}
}

func contains(s string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(s, part) })
}

// noAnswer are the codes under which gRPC, and HTTP, report that there was no answer.
var noAnswer = []string{"", "Unavailable", "DeadlineExceeded", "Canceled"}

// noConnection are signs of a dial that failed.
var noConnection = []string{"connection refused", "no such host", "zero addresses", "i/o timeout", "no route to host", "network is unreachable"}

// brokenOff are signs of a connection that the other side closed at once, or on
// which it spoke first. The wording depends on when net/http notices.
var brokenOff = []string{"connection reset by peer", "broken pipe", "EOF", "use of closed network connection", "malformed HTTP response", "readLoopPeekFailLocked", "client conn could not be established", "server closed idle connection"}

// timedOut are signs of an answer that did not come.
var timedOut = []string{"DeadlineExceeded", "deadline exceeded", "Client.Timeout", "handshake timeout", "i/o timeout", "request canceled"}

// meanings are tried in this order, the specific before the general.
var meanings = slices.Concat(unreached, unsafe, brokenConnections, answers)

// unreached is what is heard where nothing answers.
var unreached = []meaning{
	{noAnswer, []string{"proxyconnect"}, nil, Unavailable, deadProxy},
	{noAnswer, []string{"Proxy Authentication Required"}, nil, Unavailable, proxyCredentials},
	{noAnswer, []string{"handshake with HTTP 5", `"HTTP/1.1 5`}, nil, Unavailable, "the proxy %PROXY% (HTTPS_PROXY in the environment) does not reach it. Start the backend or correct {otlp-endpoint}, or look at the proxy's log"},
	{noAnswer, []string{"connect handshake"}, nil, Unavailable, "the proxy %PROXY% (HTTPS_PROXY in the environment) does not let it through. Name the endpoint's host in NO_PROXY, or allow it there"},
	{noAnswer, []string{"upstream connect error"}, nil, Unavailable, "a proxy before it cannot reach it. Start the backend, or look at the proxy's log"},
	{noAnswer, noConnection, func(f *Failure) bool { return f.to.Endpoint.proxy(f.to.Protocol) != "" }, Unavailable, deadProxy},

	{noAnswer, []string{"no such file or directory"}, unixSocket, Unavailable, "there is no such socket. Start the backend, or correct {otlp-endpoint}"},
	{noAnswer, []string{"permission denied"}, unixSocket, Unavailable, "clntrace's user may not write to that socket. Give it the right"},
	{noAnswer, []string{"connection refused"}, withoutPort, Unavailable, "nothing is listening there, and {otlp-endpoint} names no port, so the web's port was tried. Add the port: usually 4317 for grpc, 4318 for http/protobuf"},
	{noAnswer, []string{"connection refused"}, nil, Unavailable, "nothing is listening there. Start the backend or correct {otlp-endpoint}; 'off' if {statistics} is all you want"},
	{noAnswer, []string{"no such host", "zero addresses"}, nil, Unavailable, "the host's name is not known. Correct it in {otlp-endpoint}, or look at the DNS of this machine or container"},
	{noAnswer, []string{"server misbehaving", "lookup "}, nil, Unavailable, "the DNS of this machine or container does not answer. Fix that, or write the address into {otlp-endpoint}"},
	{noAnswer, []string{"connect: operation not permitted"}, nil, Unavailable, "a firewall or a sandbox of this host forbids the connection. Allow it, in systemd with IPAddressAllow= in lightningd's unit"},
	{noAnswer, []string{"no route to host", "network is unreachable"}, nil, Unavailable, "there is no way to that host. Look at the network of this machine or container, or correct {otlp-endpoint}"},
}

// unsafe is what is heard where TLS fails, or would be needed.
var unsafe = []meaning{
	{noAnswer, []string{cannotBeRead}, nil, Unavailable, "a file with certificates cannot be read any more. [Correct {otlp-ca-file}, {otlp-cert-file} or {otlp-key-file}, or the rights of what it names|Correct it]"},
	{noAnswer, []string{"first record does not look like a TLS handshake"}, nil, Unavailable, "it does not speak TLS. Write http://host:port in {otlp-endpoint} if you trust the network in between, or turn TLS on there"},
	{noAnswer, []string{"no application protocol", "missing selected ALPN"}, nil, Unavailable, "its TLS offers no HTTP/2, which gRPC needs. [Set {otlp-protocol}=http/protobuf if that is what it speaks, or correct|Correct] the port in {otlp-endpoint}, or let it, or the proxy before it, offer h2 (ALPN)"},
	{noAnswer, []string{"protocol version not supported"}, nil, Unavailable, "its TLS is older than version 1.2, or newer than 1.3. Update it"},
	{noAnswer, []string{"x509: certificate signed by unknown authority"}, nil, Unavailable, "its certificate is signed by a CA that is not trusted here. [Name that CA's file in {otlp-ca-file}|Have this machine trust that CA, or write http:// in {otlp-endpoint} if you trust the network in between]"},
	{noAnswer, []string{"x509: certificate has expired or is not yet valid"}, nil, Unavailable, "its certificate is out of date. Renew it there, or set this machine's clock right"},
	{noAnswer, []string{"certificate is valid for", "doesn't contain any IP SANs", "not valid for any names"}, nil, Unavailable, "its certificate is for another name. Write a name that it is for in {otlp-endpoint}"},
	{noAnswer, []string{"remote error: tls: expired certificate"}, nil, Unavailable, "it says that the client certificate is out of date. Renew [the one in {otlp-cert-file}, which is read again for each connection|it], or set the clocks right"},
	{noAnswer, []string{"unknown certificate authority", "bad certificate", "unknown certificate", "unsupported certificate"}, withCertificate, Unavailable, "it does not trust the client certificate[ in {otlp-cert-file}|]. Use one that is signed by a CA that it knows"},
	{noAnswer, []string{"certificate required", "bad certificate", "unknown certificate", "unsupported certificate"}, nil, Unavailable, wantsCertificate},
	{noAnswer, []string{"remote error: tls: handshake failure"}, nil, Unavailable, "it ends the TLS handshake. [If it wants a client certificate that it trusts, set {otlp-cert-file} and {otlp-key-file}; else look|Look] at its log"},
}

// brokenConnections is what is heard where something answers, but not as OTLP does.
var brokenConnections = []meaning{
	{noAnswer, []string{"frame header looked like an HTTP/1.1 header"}, nil, Unavailable, "it speaks HTTP and not gRPC. [Set {otlp-protocol}=http/protobuf, or name|Name] the port for gRPC, usually 4317"},
	{noAnswer, []string{"use of closed network connection"}, func(f *Failure) bool { return f.to.Protocol == ProtocolGRPC }, Unavailable, silence},
	{noAnswer, []string{"server preface: EOF", "server preface: read tcp", "server preface: connection reset", "server preface: broken pipe"}, plaintext, Unavailable,
		"it ends the connection at once, as a port for TLS does. Write https:// in {otlp-endpoint}, or correct the port"},
	{noAnswer, []string{`\x00\x00\x06\x04\x00`}, nil, Unavailable, // HTTP/2's SETTINGS
		"it speaks gRPC. [Set {otlp-protocol}=grpc, or name|Name] the port for HTTP, usually 4318"},
	{noAnswer, []string{"stream error: stream ID", "server sent GOAWAY"}, nil, Unavailable, brokeRequest},
	{noAnswer, brokenOff, func(f *Failure) bool { return f.to.Protocol == ProtocolHTTP && plaintext(f) }, Unavailable,
		"it broke the connection off, as a port for gRPC or TLS does. [For gRPC, usually at port 4317, set {otlp-protocol}=grpc; for|For] TLS write https:// in {otlp-endpoint}; else look at its log if this lasts"},
	{noAnswer, brokenOff, withCertificate, Unavailable,
		"it broke the connection off. If it does not trust the client certificate[ in {otlp-cert-file}|], or that is out of date, use another one; else look at its log if this lasts"},
	{noAnswer, brokenOff, func(f *Failure) bool { return f.to.Endpoint.tls }, Unavailable,
		"it broke the connection off. [If it wants a client certificate that it trusts, set {otlp-cert-file} and {otlp-key-file}; else look|Look] at its log if this lasts"},
	{noAnswer, []string{"server preface"}, nil, Unavailable, "it does not answer as gRPC does. Correct the port in {otlp-endpoint}, usually 4317"},
	{noAnswer, timedOut, nil, Unavailable, silence},
	{noAnswer, brokenOff, nil, Unavailable, "it broke the connection off. Look at its log if this lasts"},
}

// answers is what an answer means. Of the codes it follows the OTLP specification, but
// what is said about the sender or the place does not cost the spans: somebody will
// correct it.
var answers = []meaning{
	{[]string{"HTTP 413"}, nil, nil, TooLarge, large},
	{[]string{"Unknown"}, []string{"413 (Request Entity Too Large)"}, nil, TooLarge, large},
	{[]string{"ResourceExhausted", "OutOfRange", "HTTP 400"}, nil, aboutSize, TooLarge, large},
	// gRPC has codes for how a stream was broken off, which sound like answers.
	{nil, []string{"stream terminated by RST_STREAM", "server closed the stream without sending trailers"}, overGRPC, Unavailable, brokeRequest},
	{nil, []string{"code received from server: 502", "code received from server: 503", "code received from server: 504"}, overGRPC, Unavailable, notReady},
	{nil, []string{"code received from server: 429"}, overGRPC, Unavailable, limited},

	{nil, []string{"grpc-encoding", "ontent-encoding", "ontent-Encoding", "ontent encoding", "ecompressor is not installed"}, compressed, Refusing, "it does not understand the compression. [Set {otlp-compression}=none|Look at its log]"},
	{[]string{"HTTP 415"}, nil, compressed, Refusing, "it does not take such requests. [Set {otlp-compression}=none if it does not understand the compression, or correct|Correct] the port in {otlp-endpoint}"},
	{[]string{"HTTP 415"}, nil, nil, Refusing, "it does not take OTLP over HTTP. [Set {otlp-protocol}=grpc if that is what it speaks, or correct|Correct] the port in {otlp-endpoint}, usually 4318"},
	{nil, []string{"no org id"}, nil, Refusing, "it wants to be told a tenant. [Add X-Scope-OrgID=TENANT to {otlp-headers}|Name a port in {otlp-endpoint} that wants none]"},
	{[]string{"Unauthenticated", "HTTP 401"}, nil, nil, Refusing, "it wants credentials, or other ones. [Set them in {otlp-headers}, such as authorization=Bearer%20TOKEN|Name a port in {otlp-endpoint} that wants none]"},
	{[]string{"PermissionDenied", "HTTP 403"}, nil, nil, Refusing, "[the credentials in {otlp-headers} may not write %SPANS%. Set others, or give them the right|it lets nobody write %SPANS% without credentials. Name a port in {otlp-endpoint} that wants none]"},
	{[]string{"HTTP 407"}, nil, nil, Refusing, proxyCredentials},
	{nil, []string{"unexpected HTTP status code received from server", "received unexpected content-type"}, overGRPC, Refusing, "it is a web server and does not speak gRPC. [Set {otlp-protocol}=http/protobuf if it takes that, or correct|Correct] the port in {otlp-endpoint}, usually 4317"},
	{[]string{"Unimplemented"}, nil, nil, Refusing, "it speaks gRPC and takes no %SPANS%. Correct the port in {otlp-endpoint}; if it is the OpenTelemetry Collector, give it a %TRACES% pipeline"},
	{nil, []string{": a redirect"}, overHTTP, Refusing, "it redirects, which is not followed. Set {otlp-endpoint} to where it leads"},
	{nil, []string{"but with a web page"}, overHTTP, Refusing, "this is no OTLP endpoint. Correct {otlp-endpoint}"},
	{[]string{"HTTP 404", "HTTP 405", "HTTP 410", "HTTP 421", "HTTP 501"}, nil, forTracesAlone, Refusing, "it takes no %SPANS% at that path. OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is: correct its port (usually 4318) and path (usually /v1/traces)"},
	{[]string{"HTTP 404", "HTTP 405", "HTTP 410", "HTTP 421", "HTTP 501"}, nil, nil, Refusing, "it takes no %SPANS% at that path. They go to {otlp-endpoint} with %PATH% added: correct its port (usually 4318) and path"},
	{[]string{"HTTP 400"}, []string{"HTTPS", "SSL-enabled"}, plaintext, Refusing, "it wants TLS. Write https:// in {otlp-endpoint}"},
	{[]string{"NotFound"}, nil, nil, Refusing, "it does not know where the %SPANS% belong. Look at its log, or correct {otlp-endpoint}[ or {otlp-headers}|]"},
	{[]string{"HTTP 400"}, nil, plaintext, Rejected, "it did not understand the request. If it wants TLS write https:// in {otlp-endpoint}, else look at its log"},

	{[]string{"ResourceExhausted"}, nil, func(f *Failure) bool { return f.comesBack }, Unavailable, limited},
	{[]string{"ResourceExhausted"}, nil, nil, Rejected, limited},
	{[]string{"HTTP 429"}, nil, nil, Unavailable, limited},
	{[]string{"HTTP 408", "HTTP 425"}, nil, nil, Unavailable, notReady},
	{nil, nil, otherRefusal, Refusing, "it, or a proxy before it, takes no such requests. Look at its log, or correct {otlp-endpoint}"},
	{nil, nil, otherOutage, Unavailable, notReady},
	{[]string{"Internal", "Unknown", "HTTP 500"}, nil, nil, Rejected, "it reports an error of its own. Look at its log"},
	{[]string{"", "Canceled", "DeadlineExceeded", "Aborted", "OutOfRange", "Unavailable", "DataLoss"}, nil, nil, Unavailable, ""},
}

var size = regexp.MustCompile(`(?i)\b(message|request|body|payload|batch)\b.*(larger|too (large|big|long)|exceed|maximum|limit)` +
	`|(larger|exceed|too (large|big|long)).*\b(message|request|body|payload|batch|bytes)\b`)

var otherLimit = regexp.MustCompile(`(?i)\b(rate|quota|per (second|minute)|size of (a |the )?trace|live traces)\b|/s\b`)

// aboutSize reports whether the endpoint complains about the size of the request. It
// does not if it complains about a rate, though that may be one of bytes, or about what
// it has stored.
func aboutSize(f *Failure) bool {
	return size.MatchString(f.Reason) && !otherLimit.MatchString(f.Reason)
}

// otherRefusal reports whether an HTTP status says that the request as such is not
// taken, whatever is in it.
func otherRefusal(f *Failure) bool {
	status := f.status()
	return status/100 == 4 && !slices.Contains([]int{400, 409, 422, 429}, status) || status == 505 || status/100 == 1
}

// otherOutage reports whether an HTTP status says that the endpoint cannot do now what it
// is asked for, as 503 and those of its kind that proxies have invented, 52x.
func otherOutage(f *Failure) bool { return f.status()/100 == 5 && f.status() != 500 }

// status is that of an answer over HTTP; 0: there was none.
func (f *Failure) status() int {
	status, _ := strings.CutPrefix(f.code, "HTTP ")
	n, _ := strconv.Atoi(status) // 0 for the codes of gRPC
	return n
}

// silence is also the advice if gRPC says that the connection was closed: clntrace
// has closed it, after the timeout.
const silence = "it did not answer [within {otlp-timeout}|in time]. Look at its load and log, and at firewalls in between"

const (
	deadProxy        = "the proxy %PROXY% (HTTPS_PROXY or HTTP_PROXY in the environment) cannot be reached. Correct the variable, or name the endpoint's host in NO_PROXY"
	proxyCredentials = "the proxy %PROXY% (HTTPS_PROXY or HTTP_PROXY in the environment) wants credentials, or other ones. Write them into the variable, as in http://USER:PASSWORD@HOST:PORT, or name the endpoint's host in NO_PROXY"
	wantsCertificate = "it wants a client certificate that it trusts. [Set {otlp-cert-file} and {otlp-key-file}|Name another port in {otlp-endpoint}, for this command has none]"
	brokeRequest     = "it, or a proxy before it, broke the request off. Look at its log if this lasts"
	notReady         = "it, or a proxy before it, is not ready. Look at its log if this lasts"
	large            = "the batch is too large for it. [Lower {batch-size}, or raise|Raise] its limit"
	limited          = "a limit of it is reached. [Send less ({sample-ratio}, {drop-spans}), or raise|Raise] the limit"
)

func unixSocket(f *Failure) bool { return f.to.Endpoint.unix }

func forTracesAlone(f *Failure) bool { return f.to.Endpoint.whole && f.signal == Spans }

func plaintext(f *Failure) bool { return !f.to.Endpoint.tls && !f.to.Endpoint.unix }

func withCertificate(f *Failure) bool { return f.to.Endpoint.tls && f.to.CertFile != "" }

func compressed(f *Failure) bool { return f.to.Compression == CompressionGzip }

func overGRPC(f *Failure) bool { return f.to.Protocol == ProtocolGRPC }

func overHTTP(f *Failure) bool { return f.to.Protocol == ProtocolHTTP }

// withoutPort reports whether the endpoint names no port, so that parseURL has
// added that of the scheme.
func withoutPort(f *Failure) bool {
	u, err := url.Parse(f.to.Endpoint.raw)
	return err == nil && u.Host != "" && u.Port() == ""
}
