package options

import (
	"cmp"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"clntrace/collector/text"
	"clntrace/collector/voice"
)

// variable is an environment variable that stands in for an option.
type variable struct {
	name string
	// read translates the variable's value into one of the option; heard is false if
	// the value says nothing about it. If read is nil, the value is the option's.
	read         func(value string, getenv func(string) string) (translated string, heard bool, err error)
	milliseconds bool // its value is a number of them
	// about says what the variable does, if it has another form than the option. Such
	// variables are not listed among the option's defaults.
	about string
}

// named are variables whose values are those of the option.
func named(names ...string) (list []variable) {
	for _, name := range names {
		list = append(list, variable{name: name})
	}
	return list
}

// otlp are the two variables for one property of an OTLP exporter: that for traces,
// which wins, and that for all signals.
func otlpVariables(property string) []variable {
	return named("OTEL_EXPORTER_OTLP_TRACES_"+property, "OTEL_EXPORTER_OTLP_"+property)
}

// inMilliseconds are variables with a duration as the OpenTelemetry specification
// writes it.
func inMilliseconds(vars ...variable) []variable {
	for i := range vars {
		vars[i].read, vars[i].milliseconds = milliseconds, true
	}
	return vars
}

func milliseconds(value string, _ func(string) string) (string, bool, error) {
	if _, err := strconv.ParseUint(value, 10, 32); err != nil {
		return "", true, errors.New("must be a whole number of milliseconds")
	}
	return value + "ms", true, nil
}

// inAnyCase are variables with a word of a few, which the OpenTelemetry specification has
// in any case.
func inAnyCase(vars ...variable) []variable {
	for i := range vars {
		vars[i].read = func(value string, _ func(string) string) (string, bool, error) {
			return strings.ToLower(value), true, nil
		}
	}
	return vars
}

// switchedOff are the variables that turn spans off.
var switchedOff = []variable{
	{name: sdkDisabled, about: "`off` if `true`", read: func(value string, _ func(string) string) (string, bool, error) {
		return "off", strings.EqualFold(value, "true"), nil
	}},
	{name: tracesExporter, about: "`off` if `none`; with metrics, all traces are sampled out instead", read: func(value string, _ func(string) string) (string, bool, error) {
		return "off", strings.EqualFold(value, "none"), nil
	}},
}

const (
	sdkDisabled     = "OTEL_SDK_DISABLED"
	tracesExporter  = "OTEL_TRACES_EXPORTER"
	metricsExporter = "OTEL_METRICS_EXPORTER"
	prometheusHost  = "OTEL_EXPORTER_PROMETHEUS_HOST"
	prometheusPort  = "OTEL_EXPORTER_PROMETHEUS_PORT"
	sampler         = "OTEL_TRACES_SAMPLER"
	samplerArgument = "OTEL_TRACES_SAMPLER_ARG"
)

// insecure are the variables that say whether an endpoint without a scheme is one
// without TLS.
var insecure = truths(otlpVariables("INSECURE")...)

// truths are variables that are true or false. What is neither counts as false.
func truths(vars ...variable) []variable {
	for i := range vars {
		vars[i].read = func(value string, _ func(string) string) (string, bool, error) {
			value = strings.ToLower(value)
			return value, value == "true" || value == "false", nil
		}
	}
	return vars
}

// samplers are the variables for the share of traces. All spans come without a
// sampling decision of a parent, so that samplers based on one do what their root
// does.
var samplers = []variable{
	{name: samplerArgument, about: "if the sampler takes a ratio", read: func(value string, getenv func(string) string) (string, bool, error) {
		return value, rootSampler(getenv(sampler)) == "traceidratio", nil
	}},
	{name: sampler, about: "from `always_on`, `always_off` or `traceidratio`, also with `parentbased_`", read: func(value string, _ func(string) string) (string, bool, error) {
		ratio, known := map[string]string{"always_on": "1", "always_off": "0", "traceidratio": "1"}[rootSampler(value)]
		return ratio, known, nil
	}},
}

func rootSampler(value string) string {
	return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(value)), "parentbased_")
}

// metricsSwitch is the variable that turns metrics on.
var metricsSwitch = []variable{
	{name: metricsExporter, about: "on if it lists `otlp`", read: func(value string, _ func(string) string) (string, bool, error) {
		if lists(value, "otlp") {
			return "true", true, nil
		}
		return "false", strings.EqualFold(value, "none"), nil
	}},
}

// prometheus are the variables for a scrape. They count if that is asked for.
var prometheus = []variable{
	{name: prometheusPort, about: "with its host, if metrics are exported to `prometheus`", read: scrape},
	{name: prometheusHost, about: "with its port, if metrics are exported to `prometheus`", read: scrape},
	{name: metricsExporter, about: "`localhost:9464` if it lists `prometheus`", read: scrape},
}

func scrape(_ string, getenv func(string) string) (string, bool, error) {
	host, port := cmp.Or(getenv(prometheusHost), "localhost"), cmp.Or(getenv(prometheusPort), "9464")
	return net.JoinHostPort(host, port), lists(getenv(metricsExporter), "prometheus"), nil
}

func lists(value, entry string) bool {
	return slices.ContainsFunc(strings.Split(value, ","), func(e string) bool { return strings.EqualFold(strings.TrimSpace(e), entry) })
}

// deaf says of variables why they are not honoured. The first that fits counts: a name,
// or the beginning of one followed by *.
var deaf = []struct{ names, why string }{
	{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "metrics are cumulative"},
	{"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "histograms are exponential"},
	{"OTEL_EXPORTER_OTLP_METRICS_*", "metrics go where spans go, and as they do"},
	{"OTEL_METRIC_EXPORT_*", "metrics go every 30 s"},
	{"OTEL_METRICS_EXEMPLAR_FILTER", "clntrace chooses exemplars itself"},
	{"OTEL_BSP_EXPORT_TIMEOUT", "each attempt has a time limit, and batches wait in the spool"},
	{"OTEL_ATTRIBUTE_*", shortSpans}, {"OTEL_SPAN_*", shortSpans}, {"OTEL_EVENT_*", shortSpans}, {"OTEL_LINK_*", shortSpans},
	{"OTEL_PROPAGATORS", "lightningd makes the ids"},
	{"OTEL_LOG_LEVEL", "the log has no level of its own"},
	{"OTEL_LOGS_EXPORTER", noLogs}, {"OTEL_EXPORTER_OTLP_LOGS_*", noLogs}, {"OTEL_BLRP_*", noLogs}, {"OTEL_LOGRECORD_*", noLogs},
	{"OTEL_EXPORTER_ZIPKIN_*", otlpOnly}, {"OTEL_EXPORTER_JAEGER_*", otlpOnly},
	{"OTEL_EXPORTER_OTLP_SPAN_INSECURE", "the specification has renamed it to OTEL_EXPORTER_OTLP_TRACES_INSECURE"},
	{"OTEL_CONFIG_FILE", noFile}, {"OTEL_EXPERIMENTAL_CONFIG_FILE", noFile},
	{"OTEL_ENTITIES", "resources are the processes that send"},
}

const (
	shortSpans = "lightningd's spans have 2 KiB at most and leave whole"
	noLogs     = "clntrace sends no logs"
	otlpOnly   = "clntrace speaks OTLP only"
	noFile     = "clntrace has options of its own"
	unknown    = "clntrace does not know it"
)

// deafTo returns why a variable is not honoured with that value; empty if it is.
func deafTo(name, value string, getenv func(string) string) string {
	for _, d := range deaf {
		start, several := strings.CutSuffix(d.names, "*")
		if name == d.names || several && strings.HasPrefix(name, start) {
			return d.why
		}
	}
	why := unknown
	for _, v := range allVariables() {
		if v.name != name {
			continue
		}
		if v.read == nil {
			return ""
		}
		if _, heard, _ := v.read(value, getenv); heard {
			return ""
		}
		why = otherValues(name, value)
	}
	return why
}

// otherValues says what is to be said of a value that is of no consequence.
func otherValues(name, value string) string {
	switch name {
	case sdkDisabled, insecure[0].name, insecure[1].name:
		if !strings.EqualFold(value, "false") {
			return "neither true nor false, so it counts as false"
		}
	case prometheusHost, prometheusPort:
		return metricsExporter + " does not list prometheus"
	case tracesExporter, metricsExporter:
		others := slices.DeleteFunc(strings.Split(value, ","), func(e string) bool {
			e = strings.ToLower(strings.TrimSpace(e))
			return e == "otlp" || e == "none" || e == ""
		})
		if len(others) > 0 {
			return "spans go over OTLP only, metrics over OTLP and to Prometheus"
		}
	case sampler:
		return "only always_on, always_off and traceidratio are known"
	case samplerArgument:
		return "the sampler takes none"
	}
	return ""
}

// allVariables are those that are honoured.
func allVariables() []variable {
	all := slices.Clone(insecure)
	for _, o := range table {
		all = append(all, o.env...)
	}
	return all
}

// Deaf names the OpenTelemetry variables of an environment that are set and not
// honoured, and says why, in one line. It is empty if there are none. environ has
// NAME=VALUE entries.
func Deaf(environ []string) string {
	set := make(map[string]string)
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if value = strings.TrimSpace(value); strings.HasPrefix(name, "OTEL_") && value != "" {
			set[name] = value
		}
	}
	byReason := make(map[string][]string)
	for name, value := range set {
		if why := deafTo(name, value, func(n string) string { return set[n] }); why != "" {
			byReason[why] = append(byReason[why], text.Quotable(name))
		}
	}
	var parts []string
	for why, names := range byReason {
		slices.Sort(names)
		parts = append(parts, strings.Join(names, ", ")+" ("+why+")")
	}
	if len(parts) == 0 {
		return ""
	}
	slices.Sort(parts)
	return "variables of the environment that are not honoured: " + strings.Join(parts, ", ")
}

// VariablesHelp lists the variables of the OpenTelemetry specification for a
// terminal: what stands in for which option, and what is not honoured.
func VariablesHelp(v voice.Voice) string {
	var b strings.Builder
	write := func(rows []variableRow) {
		for _, row := range rows {
			writeEntry(&b, strings.Join(row.names, "\n  "), plain(row.meaning))
		}
	}
	b.WriteString("Variables of OpenTelemetry that stand in for options that are not set:\n\n")
	write(honoured(v))
	b.WriteString("\nThose that are not honoured, and why. The log names those that are set:\n\n")
	write(notHonoured())
	return b.String()
}

// variableRow is what there is to say about some variables.
type variableRow struct {
	names   []string
	meaning string
}

// grouped adds a variable to the rows, to the one that says the same if there is one.
func grouped(rows []variableRow, name, meaning string) []variableRow {
	for i := range rows {
		if rows[i].meaning == meaning {
			rows[i].names = append(rows[i].names, name)
			return rows
		}
	}
	return append(rows, variableRow{[]string{name}, meaning})
}

func honoured(v voice.Voice) (rows []variableRow) {
	for _, o := range table {
		option := "`" + v.Option(o.Name) + "`"
		for _, e := range o.env {
			meaning := option
			switch {
			case e.about != "":
				meaning += " (" + e.about + ")"
			case e.milliseconds:
				meaning += " (in milliseconds)"
			}
			rows = grouped(rows, e.name, meaning)
		}
		if o.Name == endpointOption {
			for _, e := range insecure {
				rows = grouped(rows, e.name, option+" (where it is `host:port`: without TLS if `true`, else with it)")
			}
		}
	}
	return rows
}

func notHonoured() (rows []variableRow) {
	for _, d := range deaf {
		rows = grouped(rows, d.names, d.why)
	}
	return rows
}
