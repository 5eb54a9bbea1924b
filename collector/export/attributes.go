package export

import (
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/payments"
	"clntrace/collector/policy"
)

// Attributes that the semantic conventions have no name for.
const (
	keyRequestRoot  = attribute.Key("cln.request.root")
	keyTraceID      = attribute.Key("cln.trace_id") // as sent, where grouping gave the span others
	keySpanID       = attribute.Key("cln.span_id")
	keySpanName     = attribute.Key("cln.span.name") // as sent, where it is exported under another one
	keySynthetic    = attribute.Key("cln.synthetic")
	keyApproximate  = attribute.Key("cln.approximate")
	keyBlockHeight  = attribute.Key("cln.block.height")
	keyLink         = attribute.Key("cln.link")
	keyTruncated    = attribute.Key("cln.truncated")
	keyParentSpanID = attribute.Key("cln.parent.span_id")
	keyIncomplete   = attribute.Key("cln.incomplete")
	keyRequestWait  = attribute.Key("cln.request.wait") // s
	keyRequestWork  = attribute.Key("cln.request.work") // s
	keyNodeID       = attribute.Key("cln.node.id")
	keyNodeAlias    = attribute.Key("cln.node.alias")
	keyNetwork      = attribute.Key("cln.network")
)

// rpcSystem is the semantic conventions' name for JSON-RPC, which lightningd speaks.
const rpcSystem = "jsonrpc"

// AppendAttributes appends the attributes of s that do not depend on the node, as p
// allows to show them.
func AppendAttributes(list []attribute.KeyValue, s *correlate.Span, p *policy.Policy) []attribute.KeyValue {
	return appendRelations(appendSubject(list, s, p), s, p)
}

// appendSubject appends the tags of s, and what they say it is about.
func appendSubject(list []attribute.KeyValue, s *correlate.Span, p *policy.Policy) []attribute.KeyValue {
	for i := range s.Tags {
		tag := &s.Tags[i]
		switch {
		case tag.Key == cln.TagError && (tag.Value == cln.True || tag.Value == cln.False): // the status
		case tag.Key == cln.TagQuery:
			list = append(list, semconv.DBQueryText(p.Show(tag.Key, tag.Value)))
		default:
			list = append(list, attribute.String(tag.Key, p.Show(tag.Key, tag.Value)))
		}
	}
	switch {
	case cln.IsQuery(s.Name):
		if s.Detail != "" {
			list = append(list, semconv.DBQuerySummary(p.Detail(s)))
		}
	case s.Name == cln.SpanCommand, s.Name == cln.SpanBackend, s.Name == cln.SpanRequest, s.IsRoot():
		list = appendRPC(list, p.Detail(s))
	}
	return list
}

// appendRelations appends what the correlator has found out.
func appendRelations(list []attribute.KeyValue, s *correlate.Span, p *policy.Policy) []attribute.KeyValue {
	if s.Request != "" {
		list = append(list, keyRequestRoot.String(p.Show(cln.TagID, s.Request)))
	}
	if s.Paired {
		list = append(list, keyRequestWait.Float64(s.Wait.Seconds()), keyRequestWork.Float64(s.Work.Seconds()))
	}
	if s.Synthetic {
		list = append(list, keySynthetic.Bool(true))
	}
	if s.Height != 0 && p.Payments() >= payments.Outcomes {
		list = append(list, keyBlockHeight.Int64(int64(s.Height)))
	}
	if s.Payment != nil && s.Payment.Approximate {
		list = append(list, keyApproximate.Bool(true))
	}
	if s.Incomplete {
		list = append(list, keyIncomplete.Bool(true))
	}
	if s.SentTraceID.IsValid() {
		list = append(list, keyTraceID.String(s.SentTraceID.String()))
	}
	if s.SentID.IsValid() {
		list = append(list, keySpanID.String(s.SentID.String()))
	}
	if s.Truncated {
		list = append(list, keyTruncated.Bool(true))
		if s.ParentID.IsValid() {
			list = append(list, keyParentSpanID.String(s.ParentID.String()))
		}
	}
	return list
}

// links converts relations to the SDK's form.
func links(relations []correlate.Link) []sdktrace.Link {
	if len(relations) == 0 {
		return nil
	}
	list := make([]sdktrace.Link, len(relations))
	for i, r := range relations {
		list[i] = sdktrace.Link{
			SpanContext: trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: r.TraceID, SpanID: r.SpanID, TraceFlags: trace.FlagsSampled,
			}),
			Attributes: []attribute.KeyValue{keyLink.String(string(r.Relation))},
		}
	}
	return list
}

func appendRPC(list []attribute.KeyValue, method string) []attribute.KeyValue {
	list = append(list, semconv.RPCSystemNameKey.String(rpcSystem))
	if method != "" {
		list = append(list, semconv.RPCMethod(method))
	}
	return list
}

// databaseSystem returns db.system.name for the scheme of lightningd's wallet
// option, or an invalid attribute if the scheme is unknown.
func databaseSystem(scheme string) attribute.KeyValue {
	switch scheme {
	case "sqlite3":
		return semconv.DBSystemNameSQLite
	case "postgres":
		return semconv.DBSystemNamePostgreSQL
	}
	return attribute.KeyValue{}
}
