package plugin

import (
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/elementsproject/glightning/glightning"
	"github.com/elementsproject/glightning/jrpc2"

	"clntrace/collector/defect"
)

// paramsField is the single parameter into which wire wraps all others. It must
// be the json tag of method.Params, by which glightning finds the field.
const paramsField = "params"

// paramMark marks the text of a paramError on its way from here to the wire,
// because glightning gives every error the code -1. No other error can begin with
// it: text from outside always follows the name of the method.
const paramMark = "\x01"

// method is one JSON-RPC method in the form that glightning expects. glightning
// sets Params, the only exported field, by reflection.
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
// panic would end the process, and with it the node if the plugin is an important
// one.
func (m *method) Call() (result jrpc2.Result, err error) {
	defer defect.Catch(func(found error) {
		m.log.Error(found.Error(), "method", m.name)
		result, err = nil, errors.New(m.name+": internal error, see the node's log")
	})
	result, err = m.serve(m.Params)
	if wrong, ok := errors.AsType[paramError](err); ok {
		err = errors.New(paramMark + wrong.Error())
	}
	return result, err
}

// register makes glightning answer with our methods. They win over glightning's
// own, which Start registers later: it ignores that a name is taken.
func register(g *glightning.Plugin, log *slog.Logger, serve map[string]func(json.RawMessage) (any, error)) error {
	for name, f := range serve {
		m := &method{name: name, serve: f, log: log}
		if err := g.RegisterMethod(glightning.NewRpcMethod(m, name)); err != nil {
			return err
		}
	}
	return nil
}
