package export

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"clntrace/collector/detail"
	"clntrace/collector/request"
)

// Attributes that the semantic conventions have no name for.
const (
	keyRequestRoot  = attribute.Key("cln.request.root")
	keyTruncated    = attribute.Key("cln.truncated")
	keyParentSpanID = attribute.Key("cln.parent.span_id")
	keyNodeID       = attribute.Key("cln.node.id")
	keyNodeAlias    = attribute.Key("cln.node.alias")
	keyNetwork      = attribute.Key("cln.network")
)

// redacted replaces a value that the operator does not want to leave the node.
const redacted = "[redacted]"

const (
	tagError       = "error"
	rpcSystemValue = "jsonrpc"
)

// describe fills in the attributes of s. What is derived from a redacted tag
// is redacted like the tag itself.
func (s *Span) describe(p *Policy, database attribute.KeyValue) {
	const most = 4 // attributes besides the tags
	list := make([]attribute.KeyValue, 0, len(s.in.Tags)+most)
	for i := range s.in.Tags {
		tag := &s.in.Tags[i]
		switch {
		case tag.Key == tagError && (tag.Value == "true" || tag.Value == "false"): // the status
		case tag.Key == detail.TagQuery:
			list = append(list, semconv.DBQueryText(p.show(tag.Key, tag.Value)))
		default:
			list = append(list, attribute.String(tag.Key, p.show(tag.Key, tag.Value)))
		}
	}
	switch {
	case detail.IsQuery(s.in.Name):
		if s.detail != "" {
			list = append(list, semconv.DBQuerySummary(p.Detail(s)))
		}
		if database.Valid() {
			list = append(list, database)
		}
	case s.in.Name == detail.SpanCommand, s.in.Name == detail.SpanBackend:
		list = appendRPC(list, p.Detail(s))
	case s.in.Name == detail.SpanRequest:
		list = appendRPC(list, p.Detail(s))
		if _, method := request.Path(s.in.Tag(detail.TagID)).First(); method != "" {
			list = append(list, keyRequestRoot.String(p.show(detail.TagID, method)))
		}
	}
	if s.in.Truncated {
		list = append(list, keyTruncated.Bool(true))
		if s.in.ParentID.IsValid() {
			list = append(list, keyParentSpanID.String(s.in.ParentID.String()))
		}
	}
	s.attributes = list
}

func appendRPC(list []attribute.KeyValue, method string) []attribute.KeyValue {
	list = append(list, semconv.RPCSystemNameKey.String(rpcSystemValue))
	if method != "" {
		list = append(list, semconv.RPCMethod(method))
	}
	return list
}

// databaseSystem is db.system.name for the scheme of lightningd's wallet
// option, and invalid when that is not known.
func databaseSystem(scheme string) attribute.KeyValue {
	switch scheme {
	case "sqlite3":
		return semconv.DBSystemNameSQLite
	case "postgres":
		return semconv.DBSystemNamePostgreSQL
	}
	return attribute.KeyValue{}
}
