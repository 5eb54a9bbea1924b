//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

// calm is how long a node runs after it has begun to take calls, so that the rest of
// its start is over.
const calm = time.Second

// node starts a real lightningd with all of its plugins, on a chain of one block,
// and stops it. It cannot say how many spans were sent, because lightningd does not
// look at what becomes of them.
func (b *bench) node(ctx context.Context, dir, socket string) error {
	p, err := b.start(ctx, []string{"CLN_TRACE_SOCKET=" + socket}, b.programs.lightningd,
		"--network=regtest", "--lightning-dir="+dir, "--offline", "--autolisten=false",
		"--log-file="+filepath.Join(dir, "log"), "--disable-plugin=bcli", "--plugin="+b.programs.fakechain)
	if err != nil {
		return err
	}
	defer p.abandon()
	var rpc net.Conn
	connect := func() (err error) {
		rpc, err = net.Dial("unix", filepath.Join(dir, "regtest", "lightning-rpc"))
		return err
	}
	if err := p.await(ctx, "its RPC socket", connect); err != nil {
		return err
	}
	defer func() { _ = rpc.Close() }()
	if err := pause(ctx, calm); err != nil {
		return err
	}
	stop := map[string]any{"jsonrpc": "2.0", "id": "bench", "method": "stop", "params": []any{}}
	if err := json.NewEncoder(rpc).Encode(stop); err != nil {
		return fmt.Errorf("stopping lightningd: %w", err)
	}
	_, err = p.wait(ctx)
	return err
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
