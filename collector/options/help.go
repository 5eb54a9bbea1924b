package options

import (
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
	for _, e := range o.env {
		if e.about == "" {
			names = append(names, "`"+e.name+"`")
		}
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

// Manual is the help on all options of the plugin.
func Manual() string {
	return `Options, in lightningd's config or on its command line. Those that are dynamic
can also be changed while the node runs, until its next start:
  lightning-cli -k setconfig config=clntrace-... val=VALUE transient=true

` + Help(voice.Plugin)
}

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
	head := v.Option(o.Name)
	if o.Kind != Flag {
		head += "=" + strings.TrimSuffix(string(o.Kind), "-conceal")
	}
	if o.Dynamic && v.Change != "" {
		head += " (dynamic)"
	}
	var b strings.Builder
	writeEntry(&b, head, o.Text(v))
	return b.String()
}

// writeEntry writes a name and below it what it is about.
func writeEntry(b *strings.Builder, name, about string) {
	b.WriteString("  " + name + "\n")
	for line := range strings.SplitSeq(tabletext.WrapSoft(about, helpWidth-len(helpIndent)), "\n") {
		b.WriteString(helpIndent + strings.TrimRight(line, " ") + "\n")
	}
}

// Text describes the option for a terminal, with its range and default.
func (o Option) Text(v voice.Voice) string { return plain(o.markdown(v) + o.facts(o.defaultText(v))) }

// TextWithoutDefault describes the option for a terminal that shows the default
// itself.
func (o Option) TextWithoutDefault(v voice.Voice) string { return plain(o.markdown(v) + o.facts("")) }

// facts are the range of values and the default, in brackets.
func (o Option) facts(byDefault string) string {
	var facts []string
	if o.limit != "" {
		facts = append(facts, o.limit)
	}
	if byDefault != "" {
		facts = append(facts, "default: "+byDefault)
	}
	if len(facts) == 0 {
		return ""
	}
	return " (" + strings.Join(facts, "; ") + ")"
}

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
