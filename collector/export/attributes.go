package export

import (
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"clntrace/collector/cln"
	"clntrace/collector/correlate"
	"clntrace/collector/policy"
)

// Attributes that the semantic conventions have no name for.
const (
	keyRequestRoot  = attribute.Key("cln.request.root")
	keyTraceID      = attribute.Key("cln.trace_id") // as sent, where grouping gave the span others
	keySpanID       = attribute.Key("cln.span_id")
	keySynthetic    = attribute.Key("cln.synthetic")
	keyLink         = attribute.Key("cln.link")
	keyTruncated    = attribute.Key("cln.truncated")
	keyParentSpanID = attribute.Key("cln.parent.span_id")
	keyNodeID       = attribute.Key("cln.node.id")
	keyNodeAlias    = attribute.Key("cln.node.alias")
	keyNetwork      = attribute.Key("cln.network")
)

// rpcSystem is the semantic conventions' name for JSON-RPC, which lightningd speaks.
const rpcSystem = "jsonrpc"

// describe fills in the name, attributes and links of s. What is derived from a
// redacted tag is redacted too.
func (s *readOnlySpan) describe(p *policy.Policy, database attribute.KeyValue) {
	most := 2 // attributes besides the tags, for what a span is about
	if s.in.Request != "" || s.in.Truncated {
		most = 6 // and for its relations
	}
	list := make([]attribute.KeyValue, 0, len(s.in.Tags)+most)
	for i := range s.in.Tags {
		tag := &s.in.Tags[i]
		switch {
		case tag.Key == cln.TagError && (tag.Value == cln.True || tag.Value == cln.False): // the status
		case tag.Key == cln.TagQuery:
			list = append(list, semconv.DBQueryText(p.Show(tag.Key, tag.Value)))
		default:
			list = append(list, attribute.String(tag.Key, p.Show(tag.Key, tag.Value)))
		}
	}
	switch {
	case cln.IsQuery(s.in.Name):
		if s.in.Detail != "" {
			list = append(list, semconv.DBQuerySummary(p.Detail(s.in)))
		}
		if database.Valid() {
			list = append(list, database)
		}
	case s.in.Name == cln.SpanCommand, s.in.Name == cln.SpanBackend, s.in.Name == cln.SpanRequest, s.in.Synthetic:
		list = appendRPC(list, p.Detail(s.in))
	}
	s.name = p.Name(s.in)
	s.attributes = s.describeRelations(list, p)
	s.links = links(s.in.Links)
}

// describeRelations adds what the correlator has found out.
func (s *readOnlySpan) describeRelations(list []attribute.KeyValue, p *policy.Policy) []attribute.KeyValue {
	if s.in.Request != "" {
		list = append(list, keyRequestRoot.String(p.Show(cln.TagID, s.in.Request)))
	}
	if s.in.Synthetic {
		list = append(list, keySynthetic.Bool(true))
	}
	if s.in.SentID.IsValid() {
		list = append(list, keyTraceID.String(s.in.SentTraceID.String()), keySpanID.String(s.in.SentID.String()))
	}
	if s.in.Truncated {
		list = append(list, keyTruncated.Bool(true))
		if s.in.ParentID.IsValid() {
			list = append(list, keyParentSpanID.String(s.in.ParentID.String()))
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
