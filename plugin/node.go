package plugin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/elementsproject/glightning/glightning"
	"github.com/elementsproject/glightning/jrpc2"

	"clntrace/collector"
	"clntrace/collector/socket"
)

// rpcTiming says how patiently lightningd is asked who it is.
type rpcTiming struct {
	first    time.Duration // pause after the first failure; it doubles
	most     time.Duration // longest pause
	answer   time.Duration // longest wait for one answer
	fallback time.Duration // after this, spans go out with what is known without asking
	total    time.Duration // after this, give up
}

// defaultRPCTiming takes into account that lightningd opens its RPC before init
// and answers while it waits for its plugins, but may then be busy for seconds.
// Spans wait 5 s for the node's id, so fallback is a little less.
var defaultRPCTiming = rpcTiming{
	first:    100 * time.Millisecond,
	most:     5 * time.Second,
	answer:   20 * time.Second,
	fallback: 4500 * time.Millisecond,
	total:    time.Minute,
}

const maxAnswer = 4 << 20 // bytes of one answer; getinfo has a few KiB

// identify asks lightningd who it is until it answers, and tells the collector.
func (p *plugin) identify(ctx context.Context, rpcFile string, known collector.Node) {
	var told sync.Once
	fallback := time.AfterFunc(p.rpc.fallback, func() { told.Do(func() { p.spans.SetNode(known) }) })
	defer fallback.Stop()
	ctx, cancel := context.WithTimeout(ctx, p.rpc.total)
	defer cancel()
	for pause := p.rpc.first; ; pause = min(2*pause, p.rpc.most) {
		node, err := p.askNode(ctx, rpcFile, known)
		if err == nil {
			told.Do(func() {}) // waits for fallback if it is running, and else prevents it
			p.spans.SetNode(node)
			p.log.Debug("lightningd told who it is", "id", node.ID, "version", node.Version, "database", node.Database)
			return
		}
		p.log.Debug("lightningd does not tell yet who it is", "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if p.ending.Err() == nil {
				p.log.Warn("lightningd did not tell who it is: spans go out without the node's id", "error", err)
			}
			told.Do(func() { p.spans.SetNode(known) })
			return
		}
	}
}

// askNode asks lightningd once. If only the database stays unknown, that is no
// error.
func (p *plugin) askNode(ctx context.Context, rpcFile string, known collector.Node) (collector.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, p.rpc.answer)
	defer cancel()
	var info struct {
		ID, Alias, Network, Version string
	}
	if err := call(ctx, rpcFile, &glightning.GetInfoRequest{}, &info); err != nil {
		return collector.Node{}, err
	}
	node := collector.Node{
		ID:      info.ID,
		Alias:   info.Alias,
		Network: cmp.Or(info.Network, known.Network),
		Version: cmp.Or(info.Version, known.Version),
	}
	database, err := askDatabase(ctx, rpcFile)
	if err != nil {
		p.log.Debug("lightningd does not tell its database", "error", err)
	}
	node.Database = database
	return node, nil
}

// askDatabase returns the scheme of lightningd's wallet option, or "" if that is
// none we know. The rest of the option may hold a password.
func askDatabase(ctx context.Context, rpcFile string) (string, error) {
	var list struct {
		Configs struct {
			Wallet struct {
				Value string `json:"value_str"`
			} `json:"wallet"`
		} `json:"configs"`
	}
	if err := call(ctx, rpcFile, &glightning.ListConfigsRequest{Config: "wallet"}, &list); err != nil {
		return "", err
	}
	if list.Configs.Wallet.Value == "" {
		return "sqlite3", nil // lightningd's own default, which it does not list
	}
	scheme, _, _ := strings.Cut(list.Configs.Wallet.Value, "://")
	switch scheme {
	case "sqlite3", "postgres":
		return scheme, nil
	}
	return "", nil
}

// call makes one RPC call over a connection of its own. It uses glightning's
// message types but not its client, which leaves goroutines behind and closes
// channels on which its readers may still send: if lightningd goes away at the
// wrong moment, that panics in a goroutine where we cannot recover.
func call(ctx context.Context, rpcFile string, m jrpc2.Method, result any) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", reachable(rpcFile))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	request, err := json.Marshal(&jrpc2.Request{Id: jrpc2.NewId("clntrace:" + m.Name() + "#1"), Method: m})
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(request, "\n\n"...)); err != nil {
		return fmt.Errorf("asking lightningd for %s: %w", m.Name(), err)
	}
	var answer jrpc2.RawResponse
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&answer); err != nil {
		return fmt.Errorf("reading lightningd's answer to %s: %w", m.Name(), err)
	}
	if answer.Error != nil {
		return fmt.Errorf("lightningd refused %s: %w", m.Name(), answer.Error)
	}
	return json.Unmarshal(answer.Raw, result)
}

// reachable shortens a socket's path so that it fits into an address. lightningd's
// working directory, and so ours, is that of its socket, so a long path can be
// made relative.
func reachable(path string) string {
	if len(path) <= socket.MaxPath {
		return path
	}
	if dir, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(dir, path); err == nil {
			return short
		}
	}
	return path
}
