package lightningdtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"clntrace/tests/recording"
)

// Under lightningd, the test binary is a plugin.
func TestMain(m *testing.M) {
	if os.Getenv("LIGHTNINGD_PLUGIN") == "1" {
		plugin()
		return
	}
	goleak.VerifyTestMain(m)
}

// plugin is the least that a plugin can be: it has one method, which returns
// what it was called with, and what the plugin knows of its surroundings.
func plugin() {
	var lightningDir string
	for requests := json.NewDecoder(bufio.NewReader(os.Stdin)); ; {
		var request struct {
			ID     json.RawMessage
			Method string
			Params json.RawMessage
		}
		if requests.Decode(&request) != nil {
			return // end of input
		}
		var result any
		switch request.Method {
		case "getmanifest":
			result = map[string]any{
				"options":    []any{map[string]any{"name": "o", "type": "int", "default": 7, "description": "-"}},
				"rpcmethods": []any{map[string]any{"name": "echo", "usage": "", "description": "-"}},
			}
		case "init":
			var init struct {
				Configuration struct {
					LightningDir string `json:"lightning-dir"`
				}
			}
			if err := json.Unmarshal(request.Params, &init); err != nil {
				panic(err)
			}
			lightningDir = init.Configuration.LightningDir
			fmt.Printf(`{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":%q}}`+"\n\n", request.Params)
			result = map[string]any{}
		case "echo":
			wd, _ := os.Getwd()
			result = map[string]any{"params": request.Params, "wd": wd, "socket": os.Getenv("CLN_TRACE_SOCKET"), "getinfo": getinfo(lightningDir)}
		case "shutdown":
			os.Exit(3)
		}
		text, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": request.ID, "result": result})
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s\n\n", text)
	}
}

func getinfo(dir string) json.RawMessage {
	conn, err := net.Dial("unix", filepath.Join(dir, "lightning-rpc"))
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, `{"jsonrpc":"2.0","id":"plugin:getinfo#1","method":"getinfo","params":[]}`)
	var answer struct{ Result json.RawMessage }
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		panic(err)
	}
	return answer.Result
}

func start(t *testing.T) *Node {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Start(t, Config{Plugin: exe, Options: map[string]string{"o": "9"}})
}

func TestPluginSeesLightningd(t *testing.T) {
	n := start(t)
	if m := n.GetManifest(); len(m.Options) != 1 || len(m.RPCMethods) != 1 {
		t.Fatalf("manifest %+v", m)
	}
	n.Init()
	if l := n.WaitLog("info", "configuration"); !strings.Contains(l.Message, `"o":9`) {
		t.Errorf("init without the option: %s", l.Message)
	}
	result, err := n.Call("echo", []any{"<a>", nil})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Params     json.RawMessage
		WD, Socket string
		GetInfo    struct{ ID string }
	}
	if err := json.Unmarshal(result, &got); err != nil {
		t.Fatal(err)
	}
	if got.WD != n.Dir || got.Socket != n.TraceSocket || got.GetInfo.ID != NodeID {
		t.Errorf("got %+v", got)
	}
	if calls := n.RPCCalls(); !slices.Equal(calls, []string{"getinfo"}) {
		t.Errorf("calls on lightning-rpc: %q", calls)
	}
}

func TestEnds(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(*Node)
		want string
	}{
		{"shutdown", (*Node).Shutdown, "exit status 3"},
		{"end of input", (*Node).CloseInput, "exit status 0"},
		{"SIGKILL", func(n *Node) { n.Signal(syscall.SIGKILL) }, "signal: killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := start(t)
			n.GetManifest()
			n.Init()
			tc.end(n)
			if got := n.WaitExit().String(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestReplayComesFromProcessesOfTheRecordedNames(t *testing.T) {
	program, err := BuildSender(Dir(t))
	if err != nil {
		t.Fatal(err)
	}
	datagrams, err := recording.Load(recording.Xpay)
	if err != nil {
		t.Fatal(err)
	}
	n := start(t)
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.TraceSocket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := passCredentials(listener); err != nil {
		t.Fatal(err)
	}
	received := make(chan []arrival, 1)
	go func() { received <- receive(listener, len(datagrams)) }()
	n.Senders(program).Replay(datagrams)

	names := map[string]bool{}
	for i, got := range <-received {
		want := datagrams[i]
		if diff := cmp.Diff(string(want.Payload), got.payload); diff != "" {
			t.Fatalf("datagram %d: %s", i, diff)
		}
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", senderOf(t, got.oob)))
		if err != nil {
			t.Fatal(err)
		}
		if name := filepath.Base(exe); name != want.Exe {
			t.Fatalf("datagram %d came from %s, not from %s", i, name, want.Exe)
		}
		names[want.Exe] = true
	}
	if len(names) != 4 {
		t.Errorf("%d names of senders: %v", len(names), names)
	}
}

type arrival struct {
	payload string
	oob     []byte
}

func receive(c *net.UnixConn, n int) (arrivals []arrival) {
	buffer, oob := make([]byte, 4096), make([]byte, 64)
	for range n {
		size, oobSize, _, _, err := c.ReadMsgUnix(buffer, oob)
		if err != nil {
			return arrivals
		}
		arrivals = append(arrivals, arrival{string(buffer[:size]), slices.Clone(oob[:oobSize])})
	}
	return arrivals
}

func passCredentials(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1) }); err != nil {
		return err
	}
	return set
}

func senderOf(t *testing.T, oob []byte) int32 {
	t.Helper()
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	credentials, err := syscall.ParseUnixCredentials(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	return credentials.Pid
}
