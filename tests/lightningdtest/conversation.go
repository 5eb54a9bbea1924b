package lightningdtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// RPCError is an error that the plugin answered.
type RPCError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"`
}

func (e *RPCError) Error() string { return fmt.Sprintf("code %d: %s", e.Code, e.Message) }

// Log is one line that the plugin asked lightningd to log.
type Log struct {
	Level   string `json:"level"`
	Message string `json:"message"`
}

// errHungUp is what a request gets that was open when the plugin closed its output.
var errHungUp = errors.New("the plugin closed its standard output")

// conversation is lightningd's end of the two pipes to a plugin.
type conversation struct {
	writing sync.Mutex
	to      io.WriteCloser

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, with each log line and each fault
	open    map[string]chan<- message
	logs    []Log
	faults  []string // what a plugin may never say
	hungUp  bool
}

// message is anything that a plugin says. RawMessages are nil where absent.
type message struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   *RPCError       `json:"error"`

	err error
}

func newConversation(to io.WriteCloser) *conversation {
	return &conversation{to: to, changed: make(chan struct{}), open: map[string]chan<- message{}}
}

// say writes one message: a JSON object and the blank line that ends it.
func (c *conversation) say(v any) error {
	text, err := marshal(v)
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err = c.to.Write(append(text, "\n\n"...))
	return err
}

// ask sends a request and returns where its answer will come. id is the JSON
// text of the id.
func (c *conversation) ask(id, method string, params any) (<-chan message, error) {
	answer := make(chan message, 1)
	c.mu.Lock()
	if c.hungUp {
		c.mu.Unlock()
		return nil, errHungUp
	}
	c.open[id] = answer
	c.mu.Unlock()
	return answer, c.say(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Method  string          `json:"method"`
		Params  any             `json:"params"`
	}{"2.0", json.RawMessage(id), method, params})
}

// tell sends a notification.
func (c *conversation) tell(method string, params any) error {
	return c.say(struct {
		Version string `json:"jsonrpc"`
		Method  string `json:"method"`
		Params  any    `json:"params"`
	}{"2.0", method, params})
}

// listen reads what the plugin says until it hangs up.
func (c *conversation) listen(from io.Reader) {
	var unread []byte
	chunk := make([]byte, 64<<10)
	for {
		n, err := from.Read(chunk)
		unread = append(unread, chunk[:n]...)
		for {
			text, rest, ended := bytes.Cut(unread, []byte("\n\n"))
			if !ended {
				break
			}
			c.hear(text)
			unread = rest
		}
		if err != nil {
			break
		}
	}
	if len(unread) > 0 {
		c.fault("ended its output in the middle of a message: %q", unread)
	}
	c.hangUp()
}

// hear takes one message as lightningd does.
func (c *conversation) hear(text []byte) {
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		c.fault("wrote what is no message (%v): %q", err, text)
		return
	}
	if m.Version != "2.0" {
		c.fault("wrote a message of JSON-RPC version %q: %q", m.Version, text)
	}
	if m.ID == nil {
		c.notified(m, text)
		return
	}
	if (m.Result == nil) == (m.Error == nil) {
		c.fault("answered with neither or both of result and error: %q", text)
	}
	// An id is its bytes to lightningd, not the string that they encode. An
	// answer to another spelling of it is lost, and the caller waits forever.
	c.mu.Lock()
	answer := c.open[string(m.ID)]
	delete(c.open, string(m.ID))
	c.mu.Unlock()
	if answer == nil {
		c.fault("answered a request that is not open: %q", text)
		return
	}
	if shown := m.Error; shown != nil {
		c.checkShown("an error", text)
	}
	answer <- m
}

func (c *conversation) notified(m message, text []byte) {
	if m.Method != "log" {
		c.fault("sent a notification that it did not announce: %q", text)
		return
	}
	var l struct {
		Level   string
		Message *string
	}
	if err := json.Unmarshal(m.Params, &l); err != nil || l.Message == nil {
		c.fault("sent a log line without a message (%v): %q", err, text)
		return
	}
	switch l.Level {
	case "trace", "debug", "info", "unusual", "warn", "broken", "error":
	default:
		c.fault("logged at a level that lightningd does not know: %q", text)
	}
	c.checkShown("a log line", text)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logs = append(c.logs, Log{Level: l.Level, Message: *l.Message})
	c.announce()
}

// checkShown finds what lightningd, which does not decode \u escapes, would
// show to the user as "u003c".
func (c *conversation) checkShown(what string, text []byte) {
	for _, escape := range []string{`\u003c`, `\u003e`, `\u0026`} {
		if strings.Contains(string(text), escape) {
			c.fault("wrote %s with %s, which users see without the backslash: %q", what, escape, text)
		}
	}
}

func (c *conversation) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
	c.announce()
}

func (c *conversation) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hungUp = true
	for _, answer := range c.open {
		answer <- message{err: errHungUp}
	}
	clear(c.open)
	c.announce()
}

func (c *conversation) faultsSoFar() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.faults)
}

// announce wakes every wait. The caller holds mu.
func (c *conversation) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// marshal is json.Marshal without the escapes that lightningd does not write.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
