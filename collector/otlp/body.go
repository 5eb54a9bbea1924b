package otlp

import (
	"encoding/json"
	"html"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

// said returns what the body of a refusal says, whatever its form: a Status, as OTLP
// demands, or JSON, a web page or text, as gateways and proxies send. It is "" if the
// body says nothing that can be shown.
func said(mediaType string, body []byte) string {
	if mediaType == "application/x-protobuf" {
		var s statuspb.Status
		if proto.Unmarshal(body, &s) == nil && s.GetMessage() != "" {
			return s.GetMessage()
		}
	}
	text := strings.TrimSpace(string(body))
	switch {
	case !readable(text):
		return ""
	case strings.HasPrefix(text, "{"):
		return fromJSON(text)
	case strings.HasPrefix(text, "<"):
		return fromPage(text)
	}
	return text
}

// readable reports whether a text is one: the body may as well be compressed.
func readable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) && !unicode.IsSpace(r)
	})
}

// fromJSON returns the message of an object that has one where such objects have it,
// else the text as it is.
func fromJSON(text string) string {
	var object map[string]any
	if json.Unmarshal([]byte(text), &object) != nil {
		return text
	}
	for _, key := range []string{"message", "error_description", "error", "detail", "reason"} {
		switch value := object[key].(type) {
		case string:
			if value != "" {
				return value
			}
		case map[string]any:
			if message, ok := value["message"].(string); ok && message != "" {
				return message
			}
		}
	}
	return text
}

var (
	title     = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)
	invisible = regexp.MustCompile(`(?is)<(script|style|head)\b.*?</(script|style|head)>|<[^>]*>`)
)

// fromPage returns the title of a web page, or its text if it has none.
func fromPage(text string) string {
	if found := title.FindStringSubmatch(text); found != nil && strings.TrimSpace(found[1]) != "" {
		text = found[1]
	}
	return strings.TrimSpace(html.UnescapeString(invisible.ReplaceAllString(text, " ")))
}
