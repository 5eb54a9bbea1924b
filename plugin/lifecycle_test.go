package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"clntrace/collector"
	"clntrace/collector/stats"
)

// What lightningd 26.06.6 sends, byte for byte; options and paths are ours.
const (
	msgGetManifest = `{"jsonrpc":"2.0","id":"cln:getmanifest#20","method":"getmanifest","params":{"allow-deprecated-apis":true}}` + "\n\n"
	msgInit        = `{"jsonrpc":"2.0","id":"cln:init#44","method":"init","params":{"options":{%s},"configuration":{"lightning-dir":"/home/u/.lightning/regtest","rpc-file":"","startup":true,"network":"regtest","feature_set":{"init":"800898880a8a59a1","node":"808898880a8a59a1","channel":"","invoice":"02000002024100","bolt12_offer":"","bolt12_invreq":"","bolt12_invoice":"020000","channel_type":"08800000800000"}}}}` + "\n\n"
	msgSetConfig   = `{"jsonrpc":"2.0","id":"cli:setconfig#12568/cln:setconfig#50","method":"setconfig","params":{"config":"clntrace-drop-spans","val":"db_*"}}` + "\n\n"
	msgCheck       = `{"jsonrpc":"2.0","id":"cli:check#12570/cln:check#51","method":"check","params":{"command_to_check":"setconfig","config":"clntrace-drop-spans","val":"x"}}` + "\n\n"
	msgShutdown    = `{"jsonrpc":"2.0","method":"shutdown","params":{"shutdown":{}}}` + "\n\n"
)

func TestConversation(t *testing.T) {
	n := startNode(t, false)
	n.send(msgGetManifest)
	want, err := os.ReadFile("testdata/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, want); err != nil {
		t.Fatal(err)
	}
	if got, want := n.answer(), `{"jsonrpc":"2.0","id":"cln:getmanifest#20","result":`+compact.String()+`}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, step := range []struct{ send, want string }{
		{fmt.Sprintf(msgInit, `"clntrace-sample-ratio":"0.5","clntrace-queue-size":65536,"clntrace-group-requests":true`),
			`{"jsonrpc":"2.0","id":"cln:init#44","result":{}}`},
		{msgSetConfig, `{"jsonrpc":"2.0","id":"cli:setconfig#12568/cln:setconfig#50","result":{}}`},
		{msgCheck, `{"jsonrpc":"2.0","id":"cli:check#12570/cln:check#51","result":{"command_to_check":"setconfig"}}`},
	} {
		n.send(step.send)
		if got := n.answer(); got != step.want {
			t.Errorf("got  %s\nwant %s", got, step.want)
		}
	}
	start := n.spans.start(t)
	if start.problems != nil || start.cfg.SampleRatio != 0.5 || start.cfg.SpoolDir != "/home/u/.lightning/regtest/clntrace-spool" {
		t.Errorf("started with %+v", start)
	}
	if r := n.spans.reconfigures; len(r) != 1 || !reflect.DeepEqual(r[0].cfg.DropSpans, []string{"db_*"}) || r[0].cfg.SampleRatio != 0.5 {
		t.Errorf("reconfigured with %+v", r)
	}
	n.send(msgShutdown)
	n.exit()
}

func TestInitNeverFails(t *testing.T) {
	for _, tt := range []struct {
		name, init string
		problems   []string // each in one problem, in order
	}{
		{"bad options", fmt.Sprintf(msgInit, `"clntrace-sample-ratio":"2","clntrace-otlp-headers":"hunter2"`),
			[]string{"clntrace-otlp-headers: entry 1", "clntrace-sample-ratio: got '2', must be a number from 0 to 1"}},
		{"a number that is not JSON", fmt.Sprintf(msgInit, `"clntrace-queue-size":0x400,"clntrace-spool-size":010,"clntrace-batch-size":+5`), nil},
		{"a list", fmt.Sprintf(msgInit, `"clntrace-drop-spans":["a"]`), []string{"clntrace-drop-spans"}},
		{"no options", `{"jsonrpc":"2.0","id":"cln:init#44","method":"init","params":{}}` + "\n\n", nil},
		{"options of another shape", `{"jsonrpc":"2.0","id":"cln:init#44","method":"init","params":{"options":[1]}}` + "\n\n",
			[]string{"lightningd's init cannot be read"}},
		{"no parameters", `{"jsonrpc":"2.0","id":"cln:init#44","method":"init"}` + "\n\n", []string{"lightningd's init cannot be read"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := startNode(t, false)
			n.send(tt.init)
			if got, want := n.answer(), `{"jsonrpc":"2.0","id":"cln:init#44","result":{}}`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			start := n.spans.start(t)
			if len(start.problems) != len(tt.problems) {
				t.Fatalf("problems %q, want %q", start.problems, tt.problems)
			}
			for i, want := range tt.problems {
				if !strings.Contains(start.problems[i], want) || strings.Contains(start.problems[i], "hunter2") {
					t.Errorf("problem %q, want %q", start.problems[i], want)
				}
				if got := n.log(want); !strings.HasPrefix(got, "broken ") {
					t.Errorf("logged as %q", got)
				}
			}
			if tt.name == "a number that is not JSON" && (start.cfg.QueueSize != 1024 || start.cfg.SpoolSize != 8 || start.cfg.BatchSize != 5) {
				t.Errorf("started with %+v", start.cfg)
			}
		})
	}
}

func TestSetConfig(t *testing.T) {
	for _, tt := range []struct {
		name, params string
		err          string // in the message; empty: accepted
	}{
		{"ratio", `{"config":"clntrace-sample-ratio","val":"0.1"}`, ""},
		{"endpoint off", `{"config":"clntrace-otlp-endpoint","val":"off"}`, ""},
		{"transient", `{"config":"clntrace-redact-tags","val":"id","transient":true}`, ""},
		{"by position", `["clntrace-sample-ratio","0.1"]`, ""},
		{"bad ratio", `{"config":"clntrace-sample-ratio","val":"2"}`, "clntrace-sample-ratio: got '2', must be a number from 0 to 1"},
		{"endpoint without a path", `{"config":"clntrace-otlp-endpoint","val":"unix:///"}`, "clntrace-otlp-endpoint: got 'unix:///', a unix endpoint needs the absolute path of a socket"},
		{"bad endpoint", `{"config":"clntrace-otlp-endpoint","val":"gopher://x:1"}`, "clntrace-otlp-endpoint: got 'gopher://x:1', unknown scheme 'gopher'"},
		{"secret", `{"config":"clntrace-otlp-headers","val":"hunter2"}`, "clntrace-otlp-headers: entry 1"},
		{"secret with line break", `{"config":"clntrace-otlp-headers","val":"a=hunter2\n"}`, "clntrace-otlp-headers: must be text without control characters"},
		{"lines for lightningd's config", `{"config":"clntrace-drop-spans","val":"a\nplugin=/evil"}`, "must be text without control characters"},
		{"not dynamic", `{"config":"clntrace-queue-size","val":"10"}`, "clntrace-queue-size cannot change while the node runs"},
		{"unknown", `{"config":"clntrace-nonsense","val":"1"}`, "'clntrace-nonsense' is not an option of clntrace"},
		{"without prefix", `{"config":"sample-ratio","val":"1"}`, "'sample-ratio' is not an option of clntrace"},
		{"hostile name", `{"config":"\u001b[2J\"","val":"1"}`, "'?[2J'' is not an option"},
		{"no value", `{"config":"clntrace-sample-ratio"}`, "clntrace-sample-ratio: val: must be a single value"},
		{"list", `{"config":"clntrace-sample-ratio","val":["1"]}`, "clntrace-sample-ratio: val: must be a single value"},
		{"nothing", `{}`, "setconfig: config: must be a single value"},
		{"unknown parameter", `{"config":"clntrace-sample-ratio","value":"1"}`, "setconfig: unknown parameter 'value'"},
		{"deep", `{"config":{"a":[{"b":1}]},"val":"1"}`, "config: must be a single value"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := startNode(t, false)
			n.send(fmt.Sprintf(msgInit, ""))
			n.answer()
			if strings.HasPrefix(tt.params, "{") {
				check := `{"command_to_check":"setconfig",` + strings.TrimPrefix(tt.params, "{")
				_, fail := n.ask("check", strings.Replace(check, ",}", "}", 1))
				if (fail == "") != (tt.err == "") || !strings.Contains(strings.Replace(fail, "check:", "setconfig:", 1), tt.err) {
					t.Errorf("check answers %q, want %q", fail, tt.err)
				}
			}
			if len(n.spans.reconfigures) > 0 {
				t.Error("check changed the configuration")
			}
			result, fail := n.ask("setconfig", tt.params)
			if tt.err == "" {
				if fail != "" || string(result) != "{}" || len(n.spans.reconfigures) != 1 {
					t.Errorf("got %s, %q and %d changes", result, fail, len(n.spans.reconfigures))
				}
				return
			}
			if !strings.Contains(fail, tt.err) || len(n.spans.reconfigures) != 0 {
				t.Errorf("got %q and %d changes, want %q", fail, len(n.spans.reconfigures), tt.err)
			}
			if strings.Contains(fail, "hunter2") || strings.ContainsAny(fail, "\"\\") {
				t.Errorf("the error shows too much: %s", fail)
			}
		})
	}
}

func TestSetConfigThatTheCollectorRefuses(t *testing.T) {
	n := startNode(t, false)
	n.spans.refuse = errors.New(`dialling "x": no`)
	n.send(fmt.Sprintf(msgInit, ""))
	n.answer()
	if _, fail := n.ask("setconfig", `{"config":"clntrace-sample-ratio","val":"0"}`); fail != "dialling 'x': no" {
		t.Errorf("got %q", fail)
	}
	n.spans.mu.Lock()
	n.spans.refuse = nil
	n.spans.mu.Unlock()
	if _, fail := n.ask("setconfig", `{"config":"clntrace-drop-spans","val":"a"}`); fail != "" {
		t.Errorf("got %q", fail)
	}
	if got := n.spans.reconfigures[0].cfg.SampleRatio; got != 1 {
		t.Errorf("the refused ratio %v came back", got)
	}
}

func TestSetConfigKeepsTheFaultsOfOthers(t *testing.T) {
	n := startNode(t, false)
	n.send(fmt.Sprintf(msgInit, `"clntrace-sample-ratio":"2","clntrace-batch-delay":"x"`))
	n.answer()
	for _, step := range []struct {
		val      string
		problems int
	}{{"1", 1}, {"0.5", 1}} {
		if _, fail := n.ask("setconfig", fmt.Sprintf(`{"config":"clntrace-sample-ratio","val":%q}`, step.val)); fail != "" {
			t.Fatal(fail)
		}
		r := n.spans.reconfigures[len(n.spans.reconfigures)-1]
		if len(r.problems) != step.problems {
			t.Errorf("problems %q", r.problems)
		}
	}
}

func TestCheck(t *testing.T) {
	n := startNode(t, false)
	for _, tt := range []struct{ params, result, err string }{
		{`{"command_to_check":"tracestats","limit":5}`, `{"command_to_check":"tracestats"}`, ""},
		{`["tracestats",5,"count"]`, `{"command_to_check":"tracestats"}`, ""},
		{`["tracestats","x"]`, "", "tracestats: limit: got 'x', must be a whole number from 0 to 100000"},
		{`["stop"]`, "", "check: 'stop' is not a command of clntrace"},
		{`[]`, "", "check: command_to_check is missing"},
		{`{}`, "", "check: command_to_check is missing"},
		{`{"command_to_check":"setconfig","config":"clntrace-sample-ratio","val":"1"}`, "", "init has not come yet"},
	} {
		result, fail := n.ask("check", tt.params)
		if string(result) != tt.result || (tt.err == "") != (fail == "") || !strings.Contains(fail, tt.err) {
			t.Errorf("check %s: got %s, %q; want %s, %q", tt.params, result, fail, tt.result, tt.err)
		}
	}
}

func TestOddIDsComeBackAsTheyCame(t *testing.T) {
	n := startNode(t, false)
	for _, id := range []string{
		`"cli:tracestats#1/cln:tracestats#2"`, `"<&>"`, "\"\u2028\u2029\"", `"a\"b\\"`, `"\u003c"`, `"\/"`, "\"\xff\xfe\"",
		`"` + strings.Repeat("x", 100_000) + `"`, `""`, `" "`, `7`, `-1`, `0`, `123456789012345678901234567890`, `1.5`, `null`, `true`, `[1]`, `{"id":1}`,
	} {
		n.send(`{"jsonrpc":"2.0","id":` + id + `,"method":"getmanifest","params":{}}` + "\n\n")
		if got, want := n.answer(), `{"jsonrpc":"2.0","id":`+id+`,"result":{`; !strings.HasPrefix(got, want) {
			t.Errorf("id %.40q: got %.120q", id, got)
		}
	}
}

func TestHostileInput(t *testing.T) {
	for _, tt := range []struct {
		name, send, answer string // an empty answer: none
	}{
		{"not JSON", "hello\n\n", ""},
		{"an array", "[{}]\n\n", ""},
		{"an empty object", "{}\n\n", ""},
		{"blank lines", "\n\n\n\n", ""},
		{"binary", "\x00\xff\xfe\n\n", ""},
		{"torn", `{"jsonrpc":"2.0","method":"tracestats",` + "\n\n", ""},
		{"no method", `{"jsonrpc":"2.0","id":"x"}` + "\n\n", `{"jsonrpc":"2.0","id":"x","error":{"code":-32600,`},
		{"unknown method", `{"jsonrpc":"2.0","id":"x","method":"getroute","params":[]}` + "\n\n", `{"jsonrpc":"2.0","id":"x","error":{"code":-32601,`},
		{"unknown notification", `{"jsonrpc":"2.0","method":"block_added","params":{"block":{}}}` + "\n\n", ""},
		{"another version", `{"jsonrpc":"1.0","id":"x","method":"tracestats","params":{}}` + "\n\n", `{"jsonrpc":"2.0","id":"x","error":{"code":-32600,`},
		{"raw newlines in a string", "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"tracestats\",\"params\":[\"\n\n\"]}\n\n",
			`{"jsonrpc":"2.0","id":"x","error":{"code":-32700,"message":"clntrace: the request is not valid JSON"}}`},
		{"too large", `{"jsonrpc":"2.0","id":"x","method":"tracestats","params":["` + strings.Repeat("x", maxRequest) + `"]}` + "\n\n",
			`{"jsonrpc":"2.0","id":"x","error":{"code":-32700,"message":"clntrace: the request is larger than 1048576 bytes"}}`},
		{"a number out of range", `{"jsonrpc":"2.0","id":"x","method":"tracestats","params":[1e999]}` + "\n\n", `{"jsonrpc":"2.0","id":"x","error":{`},
		{"deep", `{"jsonrpc":"2.0","id":"x","method":"tracestats","params":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}\n\n",
			`{"jsonrpc":"2.0","id":"x","error":{"code":-32700,`},
		{"method twice", `{"jsonrpc":"2.0","id":"x","method":"getmanifest","METHOD":"shutdown","method":"shutdown"}` + "\n\n", `{"jsonrpc":"2.0","id":"x","result":{"options":`},
		{"parameters that are a string", `{"jsonrpc":"2.0","id":"x","method":"tracestats","params":"x"}` + "\n\n", `{"jsonrpc":"2.0","id":"x","error":{"code":-32602,`},
		{"a message inside a request", "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"tracestats\",\"params\":[\n\n" + msgShutdown + "]}\n\n",
			`{"jsonrpc":"2.0","id":"x","error":{"code":-32602,"message":"tracestats: limit: got '{'jsonrpc'`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := startNode(t, false)
			n.send(tt.send)
			if tt.answer != "" {
				if got := n.answer(); !strings.HasPrefix(got, tt.answer) {
					t.Errorf("got %.200s, want %s", got, tt.answer)
				}
			}
			n.send(msgGetManifest)
			if got, want := n.answer(), `{"jsonrpc":"2.0","id":"cln:getmanifest#20","result":{`; !strings.HasPrefix(got, want) {
				t.Errorf("then got %.200s", got)
			}
		})
	}
}

func TestPanicIsAnswered(t *testing.T) {
	n := startNode(t, false)
	n.spans.stats = func(stats.Query) stats.Report { panic("boom") }
	if _, fail := n.ask("tracestats", `{}`); !strings.Contains(fail, "internal error") {
		t.Errorf("got %q", fail)
	}
	if got := n.log("boom"); !strings.HasPrefix(got, "broken ") {
		t.Errorf("logged as %q", got)
	}
	n.send(msgGetManifest)
	n.answer()
}

func TestAllEndsAreOrderly(t *testing.T) {
	for name, end := range map[string]func(*node){
		"shutdown":     func(n *node) { n.send(msgShutdown) },
		"end of input": func(n *node) { n.stdin.Close() },
		"SIGTERM":      func(n *node) { n.signals <- syscall.SIGTERM },
		"SIGINT":       func(n *node) { n.signals <- syscall.SIGINT },
		"all at once": func(n *node) {
			n.send(msgShutdown)
			n.stdin.Close()
			n.signals <- syscall.SIGTERM
		},
		"torn message": func(n *node) { n.send(`{"jsonrpc":`); n.stdin.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, false)
			n.send(fmt.Sprintf(msgInit, ""))
			n.answer()
			end(n)
			n.exit()
		})
	}
}

func TestRequestsBeforeTheEndOfInputAreAnswered(t *testing.T) {
	n := startNode(t, false)
	n.send(msgGetManifest + fmt.Sprintf(msgInit, ""))
	n.stdin.Close()
	n.exit()
	ids := make(map[string]bool)
	for a := range n.answers {
		var msg struct{ ID string }
		if err := json.Unmarshal([]byte(a), &msg); err != nil {
			t.Fatal(err)
		}
		ids[msg.ID] = true
	}
	if !ids["cln:getmanifest#20"] || !ids["cln:init#44"] {
		t.Errorf("answered were %v", ids)
	}
}

func TestDeafNodeDoesNotStopUs(t *testing.T) {
	n := startNode(t, true)
	n.spans.stats = func(stats.Query) stats.Report {
		return stats.Report{Warnings: []string{strings.Repeat("x", 20_000)}}
	}
	// More than the pipes hold, fewer than may be in flight.
	for range 20 {
		n.send(`{"jsonrpc":"2.0","id":"x","method":"tracestats","params":{}}` + "\n\n")
	}
	for i := range 10 * maxLogLines {
		n.plugin.log.Info("a line that nobody reads", "i", i)
	}
	n.send(msgShutdown)
	n.exit()
}

func TestSocketOptions(t *testing.T) {
	for _, tt := range []struct {
		name          string
		env           map[string]string
		path, problem string
	}{
		{"set", map[string]string{"CLN_TRACE_SOCKET": "rel/trace.sock"}, "rel/trace.sock", ""},
		{"not set", nil, "", "CLN_TRACE_SOCKET is not set in lightningd's environment, so lightningd sends no spans. Set CLN_TRACE_SOCKET=/path/to.sock there (its systemd unit, container or shell, not its config) and restart the node"},
		{"empty", map[string]string{"CLN_TRACE_SOCKET": ""}, "", "CLN_TRACE_SOCKET is empty in lightningd's environment, so lightningd sends no spans. Set CLN_TRACE_SOCKET=/path/to.sock there (its systemd unit, container or shell, not its config) and restart the node"},
	} {
		o := socketOptions("0.0.0-test", func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok }, slog.Default())
		if o.SocketPath != tt.path || o.SocketProblem != tt.problem {
			t.Errorf("%s: got %q, %q", tt.name, o.SocketPath, o.SocketProblem)
		}
	}
}

// What ends while lightningd is still being asked has nothing to prefer any more:
// its receiving thread may be gone, and a complaint about that is in the log.
func TestTheEndPrefersNothing(t *testing.T) {
	n := startNode(t, false)
	n.send(strings.Replace(fmt.Sprintf(msgInit, ""), `"rpc-file":""`, `"rpc-file":"none"`, 1))
	n.answer()
	n.signals <- syscall.SIGTERM
	n.exit()
	n.plugin.work.Wait()
	if n.spans.preferred.Load() {
		t.Error("receiving was preferred at the end")
	}
}

func TestInitAsksLightningdWhoItIs(t *testing.T) {
	n := startNode(t, false)
	n.plugin.rpc.first = time.Millisecond
	dir := t.TempDir()
	serveRPC(t, filepath.Join(dir, "lightning-rpc"), answerRPC)
	n.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"init","params":{"options":{},"configuration":{"lightning-dir":%q,"rpc-file":"lightning-rpc","network":"regtest"}}}`+"\n\n", dir))
	n.answer()
	want := collector.Node{ID: "02aa", Alias: "SLEEPYTRAWL", Network: "regtest", Version: "v26.06.6", Database: "postgres"}
	select {
	case got := <-n.spans.nodes:
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	case <-time.After(patience):
		t.Fatal("no node was set")
	}
}
