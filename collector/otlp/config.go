package otlp

import "time"

// Config says where OTLP goes, and how.
type Config struct {
	// Endpoint is where requests go. If it is Off, nothing is sent.
	Endpoint Endpoint
	Protocol Protocol
	// Headers are sent with every request. Their values are secrets.
	Headers     map[string]string
	Timeout     time.Duration // of one attempt
	Compression Compression
	// CAFile, CertFile and KeyFile are PEM files; empty: the system's CAs, no client certificate.
	CAFile, CertFile, KeyFile string
}

// Protocol is the OTLP transport.
type Protocol string

// The transports, by the names the OpenTelemetry specification gives them.
const (
	ProtocolGRPC Protocol = "grpc"
	ProtocolHTTP Protocol = "http/protobuf"
)

// Compression is the compression of requests.
type Compression string

// The compressions that every OTLP receiver understands.
const (
	CompressionNone Compression = "none"
	CompressionGzip Compression = "gzip"
)
