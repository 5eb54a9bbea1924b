package plugin

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"clntrace/collector"
	"clntrace/collector/socket"
)

// serveRPC is lightningd's RPC socket.
func serveRPC(t *testing.T, path string, answer func(method string) string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				var req struct {
					ID     json.RawMessage
					Method string
				}
				if json.NewDecoder(conn).Decode(&req) != nil {
					return
				}
				_, _ = io.WriteString(conn, `{"jsonrpc":"2.0","id":`+string(req.ID)+`,`+answer(req.Method)+"}\n\n")
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
}

// answerRPC is a node with its wallet in PostgreSQL.
func answerRPC(method string) string {
	switch method {
	case "getinfo":
		return `"result":{"id":"02aa","alias":"SLEEPYTRAWL","version":"v26.06.6","network":"regtest","num_peers":0,"fees_collected_msat":0}`
	case "listconfigs":
		return `"result":{"configs":{"wallet":{"value_str":"postgres://u:hunter2@db/cln","source":"cmdline"}}}`
	}
	return `"error":{"code":-32601,"message":"Unknown command"}`
}

func TestIdentify(t *testing.T) {
	known := collector.Node{Network: "regtest", Version: "v26.06"}
	full := collector.Node{ID: "02aa", Alias: "SLEEPYTRAWL", Network: "regtest", Version: "v26.06.6", Database: "postgres"}
	quick := rpcTiming{first: time.Millisecond, most: time.Millisecond, answer: patience, fallback: patience, total: patience}
	var refusals sync.Mutex
	left := 3
	for _, tt := range []struct {
		name   string
		answer func(string) string // nil: nobody listens
		timing func(*rpcTiming)
		want   []collector.Node
	}{
		{"at once", answerRPC, nil, []collector.Node{full}},
		{"after refusals", func(method string) string {
			refusals.Lock()
			defer refusals.Unlock()
			if left--; left >= 0 {
				return `"error":{"code":-28,"message":"warming up"}`
			}
			return answerRPC(method)
		}, nil, []collector.Node{full}},
		{"no database", func(method string) string {
			if method == "getinfo" {
				return answerRPC(method)
			}
			return `"result":{}`
		}, nil, []collector.Node{{ID: "02aa", Alias: "SLEEPYTRAWL", Network: "regtest", Version: "v26.06.6", Database: "sqlite3"}}},
		{"no version", func(method string) string {
			if method == "getinfo" {
				return `"result":{"id":"02aa"}`
			}
			return `"error":{"code":-1,"message":"no"}`
		}, nil, []collector.Node{{ID: "02aa", Network: "regtest", Version: "v26.06"}}},
		{"never", nil, func(r *rpcTiming) { r.total = 20 * time.Millisecond }, []collector.Node{known}},
		{"nonsense", func(string) string { return `"result":[` }, func(r *rpcTiming) { r.total = 20 * time.Millisecond }, []collector.Node{known}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines := newLogQueue()
			spans := newFakeCollector()
			p := newPlugin(spans, newLogger(lines))
			p.rpc = quick
			if tt.timing != nil {
				tt.timing(&p.rpc)
			}
			path := filepath.Join(t.TempDir(), "rpc")
			if tt.answer != nil {
				serveRPC(t, path, tt.answer)
			}
			p.identify(t.Context(), path, known)
			for _, want := range tt.want {
				if got := <-spans.nodes; got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
			if n := len(spans.nodes); n > 0 {
				t.Errorf("%d nodes more than expected", n)
			}
		})
	}
}

func TestIdentifyFallsBackOnWhatIsKnown(t *testing.T) {
	known := collector.Node{Network: "regtest"}
	spans := newFakeCollector()
	p := newPlugin(spans, newLogger(newLogQueue()))
	p.rpc.fallback = time.Millisecond
	fellBack := make(chan struct{})
	path := filepath.Join(t.TempDir(), "rpc")
	serveRPC(t, path, func(method string) string {
		<-fellBack
		return answerRPC(method)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.identify(t.Context(), path, known)
	}()
	if got := <-spans.nodes; got != known {
		t.Errorf("fell back on %+v, want %+v", got, known)
	}
	close(fellBack)
	<-done
	if got := <-spans.nodes; got.ID != "02aa" {
		t.Errorf("got %+v", got)
	}
}

func TestIdentifyEndsWithThePlugin(t *testing.T) {
	spans := newFakeCollector()
	p := newPlugin(spans, newLogger(newLogQueue()))
	path := filepath.Join(t.TempDir(), "rpc")
	asked := make(chan struct{})
	release := make(chan struct{})
	serveRPC(t, path, func(string) string { close(asked); <-release; return `"result":{}` })
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.identify(p.ending, path, collector.Node{})
	}()
	<-asked
	p.end(io.EOF)
	<-done
	close(release)
}

func TestReachable(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if got := reachable("/short/lightning-rpc"); got != "/short/lightning-rpc" {
		t.Errorf("a short path became %s", got)
	}
	long := filepath.Join(dir, "lightning-rpc")
	for len(long) <= socket.MaxPath {
		sub := "a-rather-long-name-of-a-directory"
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Chdir(sub)
		dir = filepath.Join(dir, sub)
		long = filepath.Join(dir, "lightning-rpc")
	}
	if got := reachable(long); got != "lightning-rpc" {
		t.Errorf("got %s", got)
	}
}
