package plugin

import (
	"encoding/json"
	"errors"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/elementsproject/glightning/glightning"
	"github.com/elementsproject/glightning/jrpc2"
)

// paramsField is the one parameter that wire wraps all others into. It must be
// the json tag of method.Params, by which glightning finds the field.
const paramsField = "params"

// paramMark stands before the text of a paramError between here and the wire,
// for glightning gives each error the code -1. No text begins with it: before
// what somebody else wrote stands the name of the method.
const paramMark = "\x01"

// method is one JSON-RPC method as glightning wants it. glightning sets Params
// by reflection, the only exported field.
type method struct {
	Params json.RawMessage `json:"params"`

	name  string
	serve func(json.RawMessage) (any, error)
	log   *slog.Logger
}

var _ jrpc2.ServerMethod = (*method)(nil)

func (m *method) Name() string { return m.name }

// New is called for each request.
func (m *method) New() any {
	return &method{name: m.name, serve: m.serve, log: m.log}
}

// Call serves a request. glightning calls it in a goroutine of its own, where a
// panic would end the process, and with it an important plugin's node.
func (m *method) Call() (result jrpc2.Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			m.log.Error("a request ended in a panic", "method", m.name, "panic", r, "stack", firstFrames(debug.Stack()))
			result, err = nil, errors.New(m.name+": internal error, see the node's log")
		}
	}()
	result, err = m.serve(m.Params)
	if wrong, ok := errors.AsType[paramError](err); ok {
		err = errors.New(paramMark + wrong.Error())
	}
	return result, err
}

// firstFrames is the part of a stack that a log line has room for.
func firstFrames(stack []byte) string {
	lines := strings.Split(string(stack), "\n")
	return strings.Join(lines[:min(len(lines), 16)], " ")
}

// register makes glightning answer with our methods. Those that glightning has
// of its own come later and lose, for Start ignores that the name is taken.
func register(g *glightning.Plugin, log *slog.Logger, serve map[string]func(json.RawMessage) (any, error)) error {
	for name, f := range serve {
		m := &method{name: name, serve: f, log: log}
		if err := g.RegisterMethod(glightning.NewRpcMethod(m, name)); err != nil {
			return err
		}
	}
	return nil
}
