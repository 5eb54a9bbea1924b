package lightningdtest

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"clntrace/tests/wait"
)

// GetManifest asks for the manifest, which must be one that lightningd takes.
func (n *Node) GetManifest() Manifest {
	n.t.Helper()
	result, err := n.call(n.id("getmanifest"), "getmanifest", map[string]any{"allow-deprecated-apis": true})
	if err != nil {
		n.t.Fatalf("getmanifest: %v", err)
	}
	if err := json.Unmarshal(result, &n.manifest); err != nil {
		n.t.Fatalf("manifest: %v in %s", err, result)
	}
	if n.manifest.Disable != "" {
		n.t.Fatalf("the plugin disabled itself: %s", n.manifest.Disable)
	}
	return n.manifest
}

// Init sends init with the options of the Config, which must have been
// announced in the manifest.
func (n *Node) Init() {
	n.t.Helper()
	options, err := n.manifest.initOptions(n.cfg.Options)
	if err != nil {
		n.t.Fatalf("lightningd would not start: %v", err)
	}
	result, err := n.call(n.id("init"), "init", map[string]any{
		"options": options,
		"configuration": map[string]any{
			"lightning-dir": n.Dir, "rpc-file": "lightning-rpc", "startup": true, "network": Network,
			"feature_set": map[string]string{
				"init": "800898880a8a59a1", "node": "808898880a8a59a1", "channel": "", "invoice": "02000002024100",
				"bolt12_offer": "", "bolt12_invreq": "", "bolt12_invoice": "020000", "channel_type": "08800000800000",
			},
		},
	})
	if err != nil {
		n.t.Fatalf("init: %v", err)
	}
	var answer struct{ Disable string }
	if err := json.Unmarshal(result, &answer); err == nil && answer.Disable != "" {
		n.t.Fatalf("the plugin disabled itself: %s", answer.Disable)
	}
}

// Call calls a method of the plugin as lightning-cli does.
func (n *Node) Call(method string, params any) (json.RawMessage, error) {
	return n.CallAs("cli:"+method+"#"+strconv.FormatInt(n.nextID.Add(1), 10), method, params)
}

// CallAs calls a method on behalf of a client's request with the given id, of
// which lightningd makes the id for the plugin. The id holds nothing that JSON
// must escape: lightningd replaces one that does.
func (n *Node) CallAs(client, method string, params any) (json.RawMessage, error) {
	return n.call(`"`+client+"/"+strings.Trim(n.id(method), `"`)+`"`, method, params)
}

// SetConfig changes an option as lightning-cli setconfig does. The error is
// the plugin's refusal.
func (n *Node) SetConfig(option, value string) error {
	_, err := n.Call("setconfig", map[string]any{"config": option, "val": value})
	return err
}

// CheckSetConfig asks whether SetConfig would be refused.
func (n *Node) CheckSetConfig(option, value string) error {
	_, err := n.Call("check", map[string]any{"command_to_check": "setconfig", "config": option, "val": value})
	return err
}

// Post sends a request whose answer nobody waits for.
func (n *Node) Post(method string, params any) error {
	_, err := n.conversation.ask(n.id(method), method, params)
	return err
}

// Notify sends a notification as lightningd does: its fields stand in an object named
// after the topic.
func (n *Node) Notify(topic string, fields map[string]any) {
	n.t.Helper()
	if err := n.conversation.tell(topic, map[string]any{topic: fields}); err != nil {
		n.t.Fatal(err)
	}
}

// id is the JSON text of an id as lightningd makes them for its own requests.
func (n *Node) id(method string) string {
	return `"cln:` + method + "#" + strconv.FormatInt(n.nextID.Add(1), 10) + `"`
}

func (n *Node) call(id, method string, params any) (json.RawMessage, error) {
	answer, err := n.conversation.ask(id, method, params)
	if err != nil {
		return nil, err
	}
	select {
	case m := <-answer:
		if m.err != nil {
			return nil, m.err
		}
		if m.Error != nil {
			return nil, m.Error
		}
		return m.Result, nil
	case <-time.After(wait.Limit):
		return nil, errors.New("no answer to " + id + " within " + wait.Limit.String())
	}
}
