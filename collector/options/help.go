package options

import (
	"fmt"
	"strings"

	tabletext "github.com/jedib0t/go-pretty/v6/text"

	"clntrace/collector/voice"
)

// defaultText says what applies if an option is not set.
func (o Option) defaultText(v voice.Voice) string {
	var last string
	switch {
	case o.defNote != nil:
		last = o.defNote(v)
	case o.Default != "":
		last = "`" + o.Default + "`"
	}
	var names []string
	for _, name := range o.env {
		names = append(names, "`"+name+"`")
	}
	switch {
	case len(names) == 0:
		return last
	case last == "":
		return strings.Join(names, ", ")
	}
	return strings.Join(names, ", ") + ", else " + last
}

// The layout of the help, for a terminal of the usual 80 columns.
const (
	helpWidth  = 80
	helpIndent = "      "
)

// Help lists all options for a terminal.
func Help(v voice.Voice) string {
	var b strings.Builder
	for _, o := range table {
		b.WriteString(o.Help(v))
	}
	return b.String()
}

// Help describes the option for a terminal.
func (o Option) Help(v voice.Voice) string {
	var b strings.Builder
	b.WriteString("  " + v.Option(o.Name))
	if o.Kind != Flag {
		fmt.Fprintf(&b, "=%s", strings.TrimSuffix(string(o.Kind), "-conceal"))
	}
	b.WriteByte('\n')
	for line := range strings.SplitSeq(tabletext.WrapSoft(o.Text(v), helpWidth-len(helpIndent)), "\n") {
		b.WriteString(helpIndent + strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// Text describes the option for a terminal, with its default.
func (o Option) Text(v voice.Voice) string {
	doc := o.markdown(v)
	if d := o.defaultText(v); d != "" {
		doc += " (default: " + d + ")"
	}
	return plain(doc)
}

// TextWithoutDefault describes the option for a terminal that shows the default
// itself.
func (o Option) TextWithoutDefault(v voice.Voice) string { return plain(o.markdown(v)) }

func (o Option) markdown(v voice.Voice) string {
	if o.more == nil {
		return o.doc
	}
	return o.doc + o.more(v)
}

// HasVariables reports whether environment variables stand in for the option.
func (o Option) HasVariables() bool { return len(o.env) > 0 }

// plain removes Markdown's code marks.
func plain(doc string) string { return strings.ReplaceAll(doc, "`", "") }
