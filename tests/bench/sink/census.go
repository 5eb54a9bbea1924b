//go:build linux

package main

import "google.golang.org/protobuf/encoding/protowire"

// Field numbers of opentelemetry/proto/collector/trace/v1/trace_service.proto
// and opentelemetry/proto/trace/v1/trace.proto.
const (
	requestResourceSpans    = 1
	resourceSpansScopeSpans = 2
	scopeSpansSpans         = 2
	spanAttributes          = 9
	attributeKey            = 1
)

// syntheticKey marks a span that clntrace added and nobody sent.
const syntheticKey = "cln.synthetic"

// census counts the spans of an ExportTraceServiceRequest, and those of them
// that are synthetic.
func census(request []byte) (spans, synthetic int64, err error) {
	err = each(request, requestResourceSpans, func(resource []byte) error {
		return each(resource, resourceSpansScopeSpans, func(scope []byte) error {
			return each(scope, scopeSpansSpans, func(span []byte) error {
				spans++
				return each(span, spanAttributes, func(attribute []byte) error {
					return each(attribute, attributeKey, func(key []byte) error {
						if string(key) == syntheticKey {
							synthetic++
						}
						return nil
					})
				})
			})
		})
	})
	return spans, synthetic, err
}

// each calls f with every field of a message that has that number and a length.
func each(message []byte, number protowire.Number, f func([]byte) error) error {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return protowire.ParseError(size)
		}
		message = message[size:]
		if n == number && kind == protowire.BytesType {
			value, size := protowire.ConsumeBytes(message)
			if size < 0 {
				return protowire.ParseError(size)
			}
			if err := f(value); err != nil {
				return err
			}
			message = message[size:]
			continue
		}
		if size = protowire.ConsumeFieldValue(n, kind, message); size < 0 {
			return protowire.ParseError(size)
		}
		message = message[size:]
	}
	return nil
}
