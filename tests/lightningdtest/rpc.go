package lightningdtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// The node that lightning-rpc tells of.
const (
	NodeID    = "02229b3bed13f6895ceeb3ac9b7b2493d3b20f4d00d03045c6a20d43007640887c"
	NodeAlias = "SLICKERGOPHER"
	Version   = "v26.06.6"
	Network   = "regtest"
)

// rpcServer is lightning-rpc, as far as a plugin that asks who its node is
// can see.
type rpcServer struct {
	listener net.Listener
	dir      string
	wallet   string // the wallet option; empty: not set
	hold     <-chan struct{}
	closing  chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]bool
	calls []string
	done  sync.WaitGroup
}

func serveRPC(path string, s *rpcServer) error {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	s.listener, s.closing, s.conns = listener, make(chan struct{}), map[net.Conn]bool{}
	s.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			s.done.Go(func() { s.serve(conn) })
		}
	})
	return nil
}

func (s *rpcServer) close() {
	close(s.closing)
	_ = s.listener.Close()
	s.mu.Lock()
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.done.Wait()
}

func (s *rpcServer) serve(conn net.Conn) {
	defer conn.Close()
	for requests := json.NewDecoder(conn); ; {
		var request struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
		}
		if requests.Decode(&request) != nil {
			return
		}
		s.mu.Lock()
		s.calls = append(s.calls, request.Method)
		s.mu.Unlock()
		if s.hold != nil {
			select {
			case <-s.hold:
			case <-s.closing:
				return
			}
		}
		answer := map[string]any{"jsonrpc": "2.0", "id": request.ID}
		if result, err := s.answer(request.Method, request.Params); err != nil {
			answer["error"] = err
		} else {
			answer["result"] = result
		}
		text, err := marshal(answer)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(text, "\n\n"...)); err != nil {
			return
		}
	}
}

func (s *rpcServer) answer(method string, params json.RawMessage) (any, *RPCError) {
	switch method {
	case "getinfo":
		return s.getinfo(), nil
	case "listconfigs":
		return s.listconfigs(params)
	}
	return nil, &RPCError{Code: -32601, Message: fmt.Sprintf("Unknown command '%s'", method)}
}

func (s *rpcServer) getinfo() any {
	return map[string]any{
		"id": NodeID, "alias": NodeAlias, "color": NodeID[:6],
		"num_peers": 0, "num_pending_channels": 0, "num_active_channels": 0, "num_inactive_channels": 0,
		"address": []any{}, "binding": []any{map[string]any{"type": "local socket", "socket": "/dev/null"}},
		"version": Version, "blockheight": 0, "network": Network,
		"fees_collected_msat": 0, "lightning-dir": s.dir,
		"our_features": map[string]string{
			"init": "800898880a8a59a1", "node": "808898880a8a59a1", "channel": "", "invoice": "02000002024100",
		},
	}
}

// listconfigs knows a few options. Like lightningd, it does not list wallet
// unless it is set.
func (s *rpcServer) listconfigs(params json.RawMessage) (any, *RPCError) {
	configs := map[string]any{
		"developer":     map[string]any{"set": false, "source": "default"},
		"lightning-dir": map[string]any{"value_str": s.dir, "source": "cmdline"},
		"network":       map[string]any{"value_str": Network, "source": "cmdline"},
		"rpc-file":      map[string]any{"value_str": "lightning-rpc", "source": "default"},
		"alias":         map[string]any{"value_str": NodeAlias, "source": "cmdline"},
		"plugin":        map[string]any{"values_str": []string{}, "sources": []string{}},
	}
	if s.wallet != "" {
		configs["wallet"] = map[string]any{"value_str": s.wallet, "source": "cmdline"}
	}
	var wanted struct {
		Config string `json:"config"`
	}
	var listed []string
	if json.Unmarshal(params, &listed) == nil && len(listed) > 0 {
		wanted.Config = listed[0]
	} else if len(params) > 0 {
		_ = json.Unmarshal(params, &wanted) // no parameters is an empty array: not an object
	}
	if wanted.Config == "" {
		return map[string]any{"configs": configs}, nil
	}
	one := map[string]any{}
	if value, ok := configs[wanted.Config]; ok {
		one[wanted.Config] = value
	}
	return map[string]any{"configs": one}, nil
}

var _ error = (*RPCError)(nil)

// AsRPCError returns err as what the plugin answered, if it is that.
func AsRPCError(err error) (*RPCError, bool) {
	var e *RPCError
	return e, errors.As(err, &e)
}
