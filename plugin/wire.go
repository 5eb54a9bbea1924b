package plugin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
)

// maxInFlight is how many requests may wait for their answers at once. The
// next one stays in lightningd's pipe, so that a lightningd that does not read
// cannot make us hold its requests.
const maxInFlight = 64

// wire stands between lightningd and glightning.
//
// Inwards it gives each request an id of its own making. A client chooses the
// first part of an id, glightning re-encodes ids with encoding/json, which
// changes <, >, &, U+2028 and what is not UTF-8, and lightningd looks answers
// up by the raw text and ignores one it does not know: the client would wait
// forever. It also wraps the parameters into one, for glightning ignores named
// parameters that it does not know and prints those that do not fit.
//
// Outwards it puts the raw ids back and takes needless escapes out.
type wire struct {
	log  *slog.Logger
	slot chan struct{} // one token for each request in flight
	next chan []byte   // requests that wait for their turn, as many as there are slots
	done chan struct{} // a token when the request whose turn it is has its answer
	gone chan struct{} // closed when nobody can read what we write

	out  io.Writer
	sent sync.Mutex // held while one message is written

	mu      sync.Mutex
	pending map[string][]byte // raw id by alias
	aliases uint64
	idle    chan struct{} // closed when pending is empty; nil while nobody waits for that
}

func newWire(out io.Writer, log *slog.Logger) *wire {
	return &wire{
		log:     log,
		slot:    make(chan struct{}, maxInFlight),
		next:    make(chan []byte, maxInFlight),
		done:    make(chan struct{}, 1),
		gone:    make(chan struct{}),
		out:     out,
		pending: make(map[string][]byte),
	}
}

// inbound carries messages from lightningd to glightning until from ends.
// What cannot be passed on is answered here, or dropped and logged.
//
// Requests go one at a time, each when the one before has its answer, for
// glightning runs what it gets at once: of two setconfigs the first one applied
// could be the last one answered, and lightningd would write down the other.
// Notifications do not wait: shutdown must get through when lightningd reads no
// answers.
func (w *wire) inbound(from io.Reader, to io.Writer) error {
	to = &lockedWriter{w: to}
	go w.turns(to)
	defer close(w.next)
	messages := newSplitter(from)
	for {
		f, err := messages.next()
		if err != nil {
			return err
		}
		if f.garbage {
			// Only its size: it may hold a concealed option.
			w.log.Warn("input that is not JSON was ignored", "bytes", len(f.body)+f.dropped)
			continue
		}
		if err := w.admit(f, to); err != nil {
			return fmt.Errorf("passing a message to glightning: %w", err)
		}
	}
}

// turns passes requests on, one at a time, until there are no more.
func (w *wire) turns(to io.Writer) {
	for request := range w.next {
		if _, err := to.Write(request); err != nil {
			return // the end has come, nobody waits for an answer
		}
		select {
		case <-w.done:
		case <-w.gone:
			return
		}
	}
}

// lockedWriter keeps messages of two writers whole.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// admit passes one message on.
func (w *wire) admit(f frame, to io.Writer) error {
	m := members(f.body)
	id, isRequest := m["id"]
	if f.dropped > 0 {
		w.refuse(id, fmt.Sprintf("the request is larger than %d bytes", maxRequest))
		return nil
	}
	var alias string
	if isRequest {
		if alias = w.take(id); alias == "" {
			return nil // nobody can read the answer
		}
	}
	text := rewrap(m, alias)
	if !json.Valid(text) {
		m["params"] = quoteBare(m["params"])
		text = rewrap(m, alias)
	}
	if !json.Valid(text) {
		w.refuse(id, "the request is not valid JSON")
		if isRequest {
			w.release(alias)
		}
		return nil
	}
	text = append(text, "\n\n"...)
	if isRequest {
		w.next <- text // has room: there is one place for each slot
		return nil
	}
	_, err := to.Write(text)
	return err
}

// rewrap builds the message anew from what counts in it, so that glightning
// sees what lightningd saw, on one line.
func rewrap(m map[string][]byte, alias string) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, name := range []string{"jsonrpc", "method"} {
		if v, ok := m[name]; ok {
			fmt.Fprintf(&b, "%q:%s,", name, v)
		}
	}
	if alias != "" {
		fmt.Fprintf(&b, "%q:%q,", "id", alias)
	}
	b.WriteString(`"params":{`)
	if v, ok := m["params"]; ok {
		fmt.Fprintf(&b, "%q:%s", paramsField, v)
	}
	b.WriteString(`}}`)
	var line bytes.Buffer
	if json.Compact(&line, b.Bytes()) != nil {
		return b.Bytes()
	}
	return line.Bytes()
}

// outbound carries messages from glightning to lightningd until from ends.
// glightning writes one message a line.
func (w *wire) outbound(from io.Reader) error {
	lines := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			w.reply(line)
		}
	}
}

// reply passes one answer on, under the id that lightningd knows. An answer
// to nothing is glightning's complaint about a notification: lightningd would
// ignore it.
func (w *wire) reply(line []byte) {
	m := members(line)
	alias := string(bytes.Trim(m["id"], `"`))
	w.mu.Lock()
	id, ok := w.pending[alias]
	w.mu.Unlock()
	if !ok {
		w.log.Debug("an answer without a request was dropped", "answer", show(string(line)))
		return
	}
	part := "result"
	if _, failed := m["error"]; failed {
		part = "error"
	}
	w.send(answer(part, unescapePlain(recode(m[part])), id))
	w.release(alias)
	select {
	case w.done <- struct{}{}:
	default: // an answer that nobody waited for
	}
}

// recode gives an error about parameters the code that JSON-RPC has for those.
func recode(value []byte) []byte {
	const invalidParams = -32602
	text, marked := bytes.CutPrefix(value, []byte(`{"code":-1,"message":"\u0001`))
	if !marked {
		return value
	}
	return append(fmt.Appendf(nil, `{"code":%d,"message":"`, invalidParams), text...)
}

// refuse answers a request that glightning never sees; a message without an
// id cannot be answered.
func (w *wire) refuse(id []byte, why string) {
	w.log.Warn("a message was refused", "why", why)
	if id != nil {
		w.send(answer("error", fmt.Appendf(nil, `{"code":-32700,"message":"clntrace: %s"}`, why), id))
	}
}

func answer(part string, value, id []byte) []byte {
	var b bytes.Buffer
	b.WriteString(`{"jsonrpc":"2.0","id":`)
	b.Write(id)
	b.WriteString(`,"` + part + `":`)
	b.Write(value)
	b.WriteByte('}')
	return b.Bytes()
}

// notify sends one log line. It blocks while lightningd does not read.
func (w *wire) notify(level, message string) {
	// message is printable ASCII, so json.Marshal's escapes are those of quote,
	// backslash and the three that unescapePlain undoes.
	text, _ := json.Marshal(message)
	w.send(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"log","params":{"level":"%s","message":%s}}`, level, unescapePlain(text)))
}

// send writes one message in one piece.
func (w *wire) send(message []byte) {
	w.sent.Lock()
	defer w.sent.Unlock()
	select {
	case <-w.gone:
		return
	default:
	}
	if _, err := w.out.Write(append(message, "\n\n"...)); err != nil {
		close(w.gone)
	}
}

// take notes a request's raw id and returns its alias, when there is room for
// one more. It is empty when lightningd cannot read answers any more.
func (w *wire) take(id []byte) string {
	select {
	case w.slot <- struct{}{}:
	case <-w.gone:
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.aliases++
	alias := strconv.FormatUint(w.aliases, 10)
	w.pending[alias] = bytes.Clone(id)
	return alias
}

// release forgets a request that has its answer.
func (w *wire) release(alias string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pending, alias)
	<-w.slot
	if len(w.pending) == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

// drain waits until every request has its answer, or ctx is done.
func (w *wire) drain(ctx context.Context) {
	w.mu.Lock()
	if len(w.pending) == 0 {
		w.mu.Unlock()
		return
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	w.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	case <-w.gone:
	}
}
