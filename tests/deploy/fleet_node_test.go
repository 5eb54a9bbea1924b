//go:build linux

package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// simulated is a node of a fleet: a clntrace of its own, and this process in place of
// lightningd and its plugins.
type simulated struct {
	id     string
	path   string // of its trace socket
	log    lightningdtest.Buffer
	cmd    *exec.Cmd
	socket net.Conn
}

// startNodes starts n nodes that send to an endpoint, with further arguments.
func startNodes(t testing.TB, n int, endpoint string, args ...string) (nodes []*simulated, stop func()) {
	t.Helper()
	for i := range n {
		dir := lightningdtest.Dir(t)
		node := &simulated{id: fmt.Sprintf("02%064x", i), path: filepath.Join(dir, "trace.sock")}
		node.cmd = exec.Command(clntrace, "collect", "--socket="+node.path, "--spool-dir="+filepath.Join(dir, "spool"),
			"--otlp-endpoint=http://"+endpoint, "--batch-delay=100ms", "--resource-attributes=service.instance.id="+node.id)
		node.cmd.Args = append(node.cmd.Args, args...)
		node.cmd.Stderr, node.cmd.Dir = &node.log, dir
		if err := node.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, node)
		wait.For(t, "the socket", func() bool {
			conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: node.path, Net: "unixgram"})
			node.socket = conn
			return err == nil
		})
	}
	stop = sync.OnceFunc(func() {
		for _, node := range nodes {
			_ = node.cmd.Process.Signal(syscall.SIGTERM)
		}
		for _, node := range nodes {
			node.socket.Close()
			if err := node.cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, node.log.String())
			}
		}
	})
	t.Cleanup(stop)
	return nodes, stop
}

// pay sends a payment of that number, which none else of the fleet has. Of four, one
// fails and one lasts over 5 s.
func (n *simulated) pay(t *testing.T, number int) (spans int) {
	t.Helper()
	datagrams := payment(t, number, func(s *recording.Span) {
		if !strings.Contains(s.Tags["id"], "injectpaymentonion") {
			return
		}
		switch number % 4 {
		case 0:
			s.Tags["error"] = "true"
		case 1:
			s.Duration += 6 * time.Second
		}
	})
	for _, d := range datagrams {
		if _, err := n.socket.Write(d.Payload); err != nil { // waits while the queue is full
			t.Fatal(err)
		}
	}
	return len(datagrams) + 1 // and the root
}

// mustKeep tells the payments that the sampling tier has to keep.
func mustKeep(number int) bool { return number%4 < 2 }

// payment is a recorded payment with ids of its own, and what change makes of its
// spans.
func payment(t *testing.T, number int, change func(*recording.Span)) (datagrams []recording.Datagram) {
	t.Helper()
	recorded, err := recording.Load(recording.Xpay)
	if err != nil {
		t.Fatal(err)
	}
	const root = "cli:xpay#3685/cln:xpay#330"
	shift := time.Since(recorded[len(recorded)-1].SentAt)
	for i, d := range recorded {
		s, err := d.Span()
		if err != nil || !strings.Contains(s.Tags["id"], root) {
			continue
		}
		s.Tags["id"] = strings.Replace(s.Tags["id"], root, fmt.Sprintf("%s/cln:xpay#%d", requestRoot(number), number), 1)
		s.ID, s.TraceID = fmt.Sprintf("%08x%08x", number+1, i+1), fmt.Sprintf("%016x%08x%08x", 0xc1, number+1, i+1)
		s.Start = s.Start.Add(shift)
		change(&s)
		d.Payload = recording.New(s)
		datagrams = append(datagrams, d)
	}
	return datagrams
}

// requestRoot is cln.request.root of a payment's spans.
func requestRoot(number int) string { return fmt.Sprintf("cli:xpay#%d", number) }

// across makes a payment go from one node over another to a third, all with clntrace
// as a plugin, and returns the id of its trace. The second node takes over 5 s.
func across(t *testing.T, endpoint string) (traceID string) {
	t.Helper()
	var nodes [3]*lightningdtest.Node
	for i := range nodes {
		nodes[i] = lightningdtest.Start(t, lightningdtest.Config{Plugin: clntrace, Options: map[string]string{
			"clntrace-otlp-endpoint": "http://" + endpoint, "clntrace-payments": "all", "clntrace-batch-delay": "100ms",
			"clntrace-resource-attributes": fmt.Sprintf("service.instance.id=node-%d", i),
		}})
		nodes[i].GetManifest()
		nodes[i].Init()
	}
	preimage := sha256.Sum256([]byte(t.Name()))
	hash := sha256.Sum256(preimage[:])
	seconds := func(at time.Time) float64 { return float64(at.UnixMicro()) / 1e6 }
	now, paid, received := time.Now(), hex.EncodeToString(hash[:]), hex.EncodeToString(preimage[:])

	part := map[string]any{"payment_hash": paid, "groupid": 1, "partid": 1, "total_payment_msat": 1000, "attempt_msat": 1000, "hops": []any{}}
	nodes[0].Notify("pay_part_start", part)
	if err := nodes[0].Senders(sender).Start("cln-xpay").SendPatiently(recording.New(recording.Span{
		TraceID: fmt.Sprintf("%032x", 1), ID: fmt.Sprintf("%016x", 1), Name: "jsonrpc", Start: now, Duration: 10 * time.Millisecond,
		Tags: map[string]string{"id": "cli:across#1/cln:xpay#1/cln-xpay:injectpaymentonion#1"},
	})); err != nil {
		t.Fatal(err)
	}
	nodes[0].Notify("pay_part_end", map[string]any{"payment_hash": paid, "groupid": 1, "partid": 1, "status": "success", "duration": 0.01})

	forward := map[string]any{
		"payment_hash": paid, "in_channel": "1x1x1", "in_htlc_id": 1, "in_msat": 1001, "out_channel": "2x2x2", "out_msat": 1000, "fee_msat": 1,
		"status": "offered", "created_index": 1, "received_time": seconds(now.Add(-6 * time.Second)),
	}
	nodes[1].Notify("forward_event", forward)
	delete(forward, "created_index")
	forward["status"], forward["updated_index"], forward["resolved_time"], forward["preimage"] = "settled", 1, seconds(now), received
	nodes[1].Notify("forward_event", forward)

	nodes[2].Notify("invoice_payment", map[string]any{"msat": 1000, "preimage": received, "label": "label"})
	id := sha256.Sum256(append([]byte("clntrace payment\x00"), hash[:]...))
	return hex.EncodeToString(id[:16])
}
