package options

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/otlp"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

var update = flag.Bool("update", false, "rewrite the tables in README.md")

// with is settings as of init.
func with(given, env map[string]string) Settings {
	return Settings{Given: given, Getenv: func(name string) string { return env[name] }, Voice: voice.Plugin}
}

// texts are those of faults.
func texts(faults []Fault) (list []string) {
	for _, f := range faults {
		list = append(list, f.Text)
	}
	return list
}

func TestDefaultsAreThoseOfTheCollector(t *testing.T) {
	given := make(map[string]string)
	for _, o := range table {
		if o.Default != "" {
			given[o.Name] = o.Default
		}
	}
	cfg, faults := with(given, nil).Resolve()
	if len(faults) > 0 {
		t.Errorf("defaults cannot be used: %v", faults)
	}
	if want := Defaults(); !reflect.DeepEqual(cfg, want) {
		t.Errorf("the table's defaults give %+v, want %+v", cfg, want)
	}
}

func TestResolve(t *testing.T) {
	def := Defaults()
	endpoint := func(s string) otlp.Endpoint {
		e, err := otlp.ParseEndpoint(s)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, tt := range []struct {
		name       string
		given, env map[string]string
		change     func(*Config)
	}{
		{name: "nothing", change: func(*Config) {}},
		{name: "option beats variables",
			given: map[string]string{"otlp-endpoint": "http://option:1"},
			env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:1",
				"OTEL_EXPORTER_OTLP_ENDPOINT": "http://general:1"},
			change: func(c *Config) { c.Endpoint = endpoint("http://option:1") }},
		{name: "variable of traces beats the general one",
			env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:1",
				"OTEL_EXPORTER_OTLP_ENDPOINT": "http://general:1"},
			change: func(c *Config) { c.Endpoint = endpoint("http://traces:1") }},
		{name: "general variable beats default",
			env:    map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://general:1"},
			change: func(c *Config) { c.Endpoint = endpoint("http://general:1") }},
		{name: "default endpoint follows the protocol",
			env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
			change: func(c *Config) {
				c.Protocol, c.Endpoint = otlp.ProtocolHTTP, otlp.DefaultEndpoint(otlp.ProtocolHTTP)
			}},
		{name: "protocol of traces before that of all",
			env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
			change: func(c *Config) {
				c.Protocol, c.Endpoint = otlp.ProtocolHTTP, otlp.DefaultEndpoint(otlp.ProtocolHTTP)
			}},
		{name: "variable of traces is used as it is over HTTP",
			env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:1/x"},
			change: func(c *Config) {
				c.Protocol, c.Endpoint = otlp.ProtocolHTTP, endpoint("http://traces:1/x").ForTracesAlone()
			}},
		{name: "general variable is a base over HTTP",
			env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://general:1/x"},
			change: func(c *Config) {
				c.Protocol, c.Endpoint = otlp.ProtocolHTTP, endpoint("http://general:1/x")
			}},
		{name: "option is a base over HTTP, and what was set for traces alone is forgotten",
			given: map[string]string{"otlp-endpoint": "http://option:1/x", "otlp-protocol": "http/protobuf"},
			env:   map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:1/x"},
			change: func(c *Config) {
				c.Protocol, c.Endpoint = otlp.ProtocolHTTP, endpoint("http://option:1/x")
			}},
		{name: "a slash at the end is no path",
			given:  map[string]string{"otlp-endpoint": "http://option:1/"},
			change: func(c *Config) { c.Endpoint = endpoint("http://option:1/") }},
		{name: "empty headers beat a variable",
			given:  map[string]string{"otlp-headers": ""},
			env:    map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "a=b"},
			change: func(c *Config) { c.Headers = map[string]string{} }},
		{name: "off",
			given:  map[string]string{"otlp-endpoint": "off"},
			change: func(c *Config) { c.Endpoint = otlp.OffEndpoint }},
		{name: "white space",
			given:  map[string]string{"sample-ratio": " 0.5 "},
			change: func(c *Config) { c.SampleRatio = 0.5 }},
		{name: "a batch is not larger than the queue",
			given:  map[string]string{"queue-size": "1000"},
			change: func(c *Config) { c.QueueSize, c.BatchSize = 1000, 1000 }},
		{name: "the rest",
			given: map[string]string{"otlp-timeout": "3s", "otlp-compression": "gzip", "service-name": "node",
				"service-namespace": "fleet", "resource-attributes": "a=b%20c", "group-requests": "false", "drop-spans": "db_*",
				"redact-tags": "id,query", "batch-size": "10", "batch-delay": "2s", "spool-dir": "/spool",
				"spool-size": "0", "allow-uids": "1000", "metrics": "true",
				"span-names": "as-sent", "payments": "outcomes", "recorder-size": "0", "prometheus-listen": ":9464"},
			change: func(c *Config) {
				c.Timeout, c.Compression, c.ServiceName = 3*time.Second, otlp.CompressionGzip, "node"
				c.ServiceNamespace, c.ResourceAttributes = "fleet", map[string]string{"a": "b c"}
				c.GroupRequests, c.DropSpans, c.RedactTags = false, []string{"db_*"}, []string{"id", "query"}
				c.BatchSize, c.BatchDelay, c.SpoolDir, c.SpoolSize = 10, 2*time.Second, "/spool", 0
				c.AllowUIDs, c.Metrics = []uint32{1000}, true
				c.SpanNames, c.Payments, c.RecorderSize, c.PrometheusListen = cln.SpanNamesAsSent, cln.PaymentsOutcomes, 0, ":9464"
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := def
			tt.change(&want)
			got, faults := with(tt.given, tt.env).Resolve()
			if len(faults) > 0 {
				t.Fatalf("faults: %v", faults)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestSpoolDirectoryIsInLightningdsDirectory(t *testing.T) {
	s := with(nil, nil)
	s.Dir = "/home/u/.lightning/regtest"
	cfg, _ := s.Resolve()
	if want := "/home/u/.lightning/regtest/clntrace-spool"; cfg.SpoolDir != want {
		t.Errorf("got %s, want %s", cfg.SpoolDir, want)
	}
}

func TestEveryFaultIsNamedAtOnce(t *testing.T) {
	given := map[string]string{
		"otlp-endpoint":       "ftp://user:hunter2@host:1",
		"otlp-protocol":       "carrier-pigeon",
		"otlp-headers":        "hunter2",
		"otlp-timeout":        "0s",
		"otlp-compression":    "zip",
		"otlp-ca-file":        "/nonexistent/ca.pem",
		"service-name":        "a\nb",
		"service-namespace":   strings.Repeat("x", 300),
		"resource-attributes": "novalue",
		"group-requests":      "maybe",
		"sample-ratio":        "NaN",
		"drop-spans":          "a\x00",
		"redact-tags":         "\xff",
		"queue-size":          "0",
		"batch-size":          "many",
		"batch-delay":         "1h",
		"spool-dir":           "a\x00b",
		"spool-size":          "-1",
		"allow-uids":          "alice",
		"metrics":             "perhaps",
		"span-names":          "pretty",
		"payments":            "none",
		"recorder-size":       "33",
		"prometheus-listen":   "9464",
		"otlp-cert-file":      "/nonexistent/cert.pem",
	}
	cfg, faults := with(given, nil).Resolve()
	named := make(map[string]bool)
	for _, f := range faults {
		named[f.Option] = true
		if !strings.HasPrefix(f.Text, voice.Plugin.Option(f.Option)+":") && !strings.HasPrefix(f.Text, voice.Plugin.Option(f.Option)+" ") {
			t.Errorf("the sentence does not begin with the option's name: %s", f.Text)
		}
		if !strings.Contains(f.Text, "must be ") && !strings.HasSuffix(f.Text, "set both or none") {
			t.Errorf("the sentence does not say what is allowed: %s", f.Text)
		}
		if strings.Contains(f.Text, "hunter2") {
			t.Errorf("the sentence shows a secret: %s", f.Text)
		}
		if strings.ContainsAny(f.Text, "\"\\<>&\n") || f.Text != text.ASCII(f.Text) {
			t.Errorf("the sentence is not plain: %q", f.Text)
		}
	}
	delete(given, "otlp-cert-file") // its key is missing: that is the option at fault
	given["otlp-key-file"] = ""
	for name := range given {
		if !named[name] {
			t.Errorf("%s: no fault", name)
		}
	}
	if len(faults) != len(given) {
		t.Errorf("%d faults, want %d: %q", len(faults), len(given), texts(faults))
	}
	want := Defaults()
	want.CertFile = "/nonexistent/cert.pem"
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("faulty options did not keep their defaults: %+v", cfg)
	}
}

func TestFaultNamesTheVariable(t *testing.T) {
	_, faults := with(nil, map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}).Resolve()
	if want := []string{"OTEL_EXPORTER_OTLP_PROTOCOL: got 'http/json', must be grpc or http/protobuf"}; !reflect.DeepEqual(texts(faults), want) {
		t.Errorf("got %q, want %q", texts(faults), want)
	}
	_, faults = with(nil, map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "hunter2"}).Resolve()
	if len(faults) != 1 || !strings.HasPrefix(faults[0].Text, "OTEL_EXPORTER_OTLP_HEADERS: entry 1") || strings.Contains(faults[0].Text, "hunter2") {
		t.Errorf("got %q", texts(faults))
	}
}

func TestPathOverGRPCIsAFault(t *testing.T) {
	const allowed = "which has a path, and gRPC has none; must be http://host:port, or set clntrace-otlp-protocol=http/protobuf"
	for _, tt := range []struct {
		given, env map[string]string
		want       string
	}{
		{given: map[string]string{"otlp-endpoint": "http://h:4317/v1/traces"},
			want: "clntrace-otlp-endpoint: got 'http://h:4317/v1/traces', " + allowed},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://h/otlp/"},
			want: "OTEL_EXPORTER_OTLP_ENDPOINT: got 'https://h/otlp/', " + allowed},
	} {
		cfg, faults := with(tt.given, tt.env).Resolve()
		if got := texts(faults); !reflect.DeepEqual(got, []string{tt.want}) {
			t.Errorf("got  %q\nwant %q", got, tt.want)
		}
		if cfg.Endpoint != otlp.DefaultEndpoint(otlp.ProtocolGRPC) {
			t.Errorf("the endpoint is %s", cfg.Endpoint)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := keyPair(t, dir, "a")
	_, otherKey := keyPair(t, dir, "b")
	encrypted := filepath.Join(dir, "encrypted")
	if err := os.WriteFile(encrypted, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name          string
		ca, cert, key string
		fault         string // in the only fault; empty: none
	}{
		{name: "all", ca: cert, cert: cert, key: key},
		{name: "CA is a key", ca: key, fault: "holds no certificate"},
		{name: "CA is a directory", ca: dir, fault: "not a regular file"},
		{name: "CA is a pipe, which would hold up init", ca: pipe, fault: "not a regular file"},
		{name: "CA is absent", ca: filepath.Join(dir, "no"), fault: "no such file"},
		{name: "no key", cert: cert, fault: "clntrace-otlp-key-file is not set"},
		{name: "no certificate", key: key, fault: "clntrace-otlp-cert-file is not set"},
		{name: "another's key", cert: cert, key: otherKey, fault: "private key does not match"},
		{name: "exchanged", cert: key, key: cert, fault: "there is no certificate in the first"},
		{name: "certificate twice", cert: cert, key: cert, fault: "there is no key in the second"},
		{name: "certificate is absent", cert: filepath.Join(dir, "no"), key: key, fault: "the certificate: it cannot be read"},
		{name: "key is absent", cert: cert, key: filepath.Join(dir, "no"), fault: "the key: it cannot be read"},
		{name: "key is encrypted", cert: cert, key: encrypted, fault: "the key is encrypted"},
		{name: "home directory", ca: "~/ca.pem", fault: "write the whole path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			given := map[string]string{"otlp-ca-file": tt.ca, "otlp-cert-file": tt.cert, "otlp-key-file": tt.key}
			_, faults := with(given, nil).Resolve()
			switch {
			case tt.fault == "" && len(faults) > 0:
				t.Errorf("faults: %q", texts(faults))
			case tt.fault != "" && (len(faults) != 1 || !strings.Contains(faults[0].Text, tt.fault)):
				t.Errorf("got %q, want one with %q", texts(faults), tt.fault)
			}
		})
	}
}

// keyPair writes a certificate and its key.
func keyPair(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(path, kind string, der []byte) string {
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	base := filepath.Join(dir, name)
	return write(base+".crt", "CERTIFICATE", cert), write(base+".key", "PRIVATE KEY", der)
}

// A fault shows enough of the value to find it, and nothing that may be a secret.
func TestFaultsNameWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name       string
		given, env map[string]string
		want       []string // parts
	}{
		{"dynamic", map[string]string{"sample-ratio": "2"}, nil,
			[]string{"clntrace-sample-ratio: got '2', must be"}},
		{"not dynamic", map[string]string{"batch-delay": "5"}, nil,
			[]string{"clntrace-batch-delay: got '5', must be"}},
		{"variable", nil, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "x"},
			[]string{"OTEL_EXPORTER_OTLP_ENDPOINT: got 'x'", "must be"}},
		{"key without certificate, by variable", nil, map[string]string{"OTEL_EXPORTER_OTLP_CLIENT_KEY": "/k"},
			[]string{"clntrace-otlp-cert-file is not set, OTEL_EXPORTER_OTLP_CLIENT_KEY is"}},
		{"quotation marks", map[string]string{"otlp-endpoint": `"http://localhost:4317"`}, nil,
			[]string{"got ''http://localhost:4317''", "leave out the quotation marks"}},
		{"quotation marks around names", map[string]string{"redact-tags": ` "payment_hash,id"`}, nil,
			[]string{"clntrace-redact-tags: got ' 'payment_hash,id''", "must be the value alone; leave out the quotation marks"}},
		{"quotation marks in a variable", nil, map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "'a=b'"},
			[]string{"OTEL_RESOURCE_ATTRIBUTES: got ''a=b''", "leave out the quotation marks"}},
		{"credentials without a scheme", map[string]string{"otlp-endpoint": "hunter2@localhost:4317"}, nil,
			[]string{"got '***@localhost:4317'", "must be http://host:port"}},
		{"header as in HTTP", map[string]string{"otlp-headers": "Authorization: Bearer hunter2"}, nil,
			[]string{"entry 1 is not key=value", "a comma is %2C", "such as authorization=Bearer%20TOKEN"}},
		{"home directory", map[string]string{"spool-dir": "~/spool"}, nil, []string{"got '~/spool', only a shell knows"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, faults := with(tt.given, tt.env).Resolve()
			got := strings.Join(texts(faults), "\n")
			for _, part := range tt.want {
				if len(faults) != 1 || !strings.Contains(got, part) || strings.Contains(got, "hunter2") {
					t.Errorf("got %q, want %q in one fault", got, part)
				}
			}
		})
	}
}

func TestOptionNamesSuitLightningd(t *testing.T) {
	legal := regexp.MustCompile(`^[0-9a-z_-]+$`)
	for _, o := range table {
		if !legal.MatchString(o.Name) {
			t.Errorf("lightningd refuses the name %q", o.Name)
		}
		if o.Dynamic && o.Kind != String && o.Kind != Conceal {
			t.Errorf("%s: lightningd aborts over a setconfig value that is no %s", o.Name, o.Kind)
		}
	}
}

// markdownTable is the README's table of options.
func markdownTable() string {
	var b strings.Builder
	b.WriteString("| option | type | default | dynamic | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, o := range table {
		dynamic := "no"
		if o.Dynamic {
			dynamic = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", voice.Plugin.Option(o.Name), o.Kind, cmp.Or(o.defaultText(voice.Plugin), "empty"), dynamic, o.markdown(voice.Plugin)+o.facts(""))
	}
	return b.String()
}

func TestMarkdownTable(t *testing.T) {
	rows := strings.Split(strings.TrimSuffix(markdownTable(), "\n"), "\n")
	if want := len(table) + 2; len(rows) != want {
		t.Errorf("%d rows, want %d", len(rows), want)
	}
	for _, row := range rows {
		if strings.Count(row, "|") != 6 {
			t.Errorf("a row with another number of columns: %s", row)
		}
	}
}

// variablesTable is the table in README.md, here, of the variables of OpenTelemetry.
func variablesTable() string {
	var b strings.Builder
	row := func(names []string, meaning string) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.Join(names, "`, `"), meaning)
	}
	b.WriteString("| variable | stands in for |\n| --- | --- |\n")
	for _, r := range honoured(voice.Plugin) {
		row(r.names, r.meaning)
	}
	b.WriteString("\n| not honoured | because |\n| --- | --- |\n")
	for _, r := range notHonoured() {
		row(r.names, r.meaning)
	}
	return b.String()
}

func TestREADMETables(t *testing.T) {
	for _, tt := range []struct{ path, name, table string }{
		{"../../README.md", "options", markdownTable()},
		{"README.md", "variables", variablesTable()},
	} {
		readme, err := os.ReadFile(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		begin, end := "<!-- "+tt.name+" -->\n", "<!-- /"+tt.name+" -->"
		head, rest, found := strings.Cut(string(readme), begin)
		_, tail, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no %s and %s", tt.path, strings.TrimSpace(begin), end)
		}
		made := head + begin + "\n" + tt.table + "\n" + end + tail
		if *update {
			if err := os.WriteFile(tt.path, []byte(made), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if made != string(readme) {
			t.Errorf("the table in %s is not the program's: run go test ./collector/options -run README -update", tt.path)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, v := range []voice.Voice{voice.Plugin, voice.Collect} {
		help := Help(v)
		for line := range strings.SplitSeq(help, "\n") {
			if len(line) > 80 {
				t.Errorf("wider than a terminal: %s", line)
			}
		}
		for _, o := range table {
			if !strings.Contains("\n"+help, "\n  "+v.Option(o.Name)) {
				t.Errorf("%s is not in the help", o.Name)
			}
		}
		if strings.ReplaceAll(text.ASCII(strings.ReplaceAll(help, "\n", "")), "`", "") != strings.ReplaceAll(help, "\n", "") {
			t.Error("the help is not plain ASCII")
		}
	}
	if help := Help(voice.Collect); strings.Contains(help, "clntrace-otlp") || strings.Contains(help, "lightningd's network") || strings.Contains(help, "setconfig") {
		t.Errorf("the help of collect speaks as the plugin does:\n%s", help)
	}
}
