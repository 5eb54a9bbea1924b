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
	"sync/atomic"
	"time"

	"clntrace/collector/cln"
	"clntrace/collector/text"
)

// maxInFlight is how many requests may wait for their answers at once, so that a
// lightningd that does not read answers cannot make us pile up its requests.
const maxInFlight = 64

// maxHold is how long lightningd's pipe is not read because maxInFlight requests wait
// for their answers. A lightningd that reads none for so long hangs. It gets none to
// further requests, but its notifications are heard, shutdown above all.
const maxHold = 5 * time.Second

// maxTurn is how long the next request waits for the answer to the one before. Ours
// take far less, and lightningd waits 120 s for the ones that matter most.
const maxTurn = 30 * time.Second

// Codes of JSON-RPC's errors.
const (
	parseError     = -32700
	invalidRequest = -32600
)

// wire stands between lightningd and glightning.
//
// On the way in it replaces the id of each request by an alias. A client chooses
// the first part of an id; glightning re-encodes ids with encoding/json, which
// changes <, >, &, U+2028 and bytes that are not UTF-8; and lightningd finds the
// request of an answer by the raw text of the id and ignores ids it does not
// know, so the client would wait forever. It also wraps all parameters into a
// single one, because glightning ignores named parameters that it does not know
// and prints those whose type does not fit.
//
// On the way out it puts the raw ids back and removes needless escapes.
type wire struct {
	log  *slog.Logger
	slot chan struct{} // one token for each request in flight
	next chan turn     // requests that wait for their turn; has room for every slot
	gone chan struct{} // closed when lightningd has closed its end of our output
	// hung says that maxInFlight requests have waited for maxHold.
	hung atomic.Bool

	// notices gets the notifications that are for the collector; nil: there are none.
	notices notices
	asked   bool // a request has come

	out  io.Writer
	sent sync.Mutex // held while one message is written

	mu      sync.Mutex
	pending map[string]request // by alias
	aliases uint64
	idle    chan struct{} // closed when pending is empty; nil while nobody waits for that
}

// request is one that has not been answered.
type request struct {
	id       []byte        // raw
	answered chan struct{} // closed when it has been
}

// turn is a request that waits to be passed on.
type turn struct {
	text     []byte
	answered <-chan struct{} // closed when it has been
}

func newWire(out io.Writer, log *slog.Logger) *wire {
	return &wire{
		log:     log,
		slot:    make(chan struct{}, maxInFlight),
		next:    make(chan turn, maxInFlight),
		gone:    make(chan struct{}),
		out:     out,
		pending: make(map[string]request),
	}
}

// inbound carries messages from lightningd to glightning until from ends.
// Messages that cannot be passed on are answered here, or dropped and logged.
//
// Requests are passed on one at a time, each after the previous one has been
// answered, because glightning serves them concurrently: of two setconfigs, the
// one that was applied first could be answered last, and lightningd would record
// the wrong value. Notifications do not wait: shutdown has to get through even
// when lightningd reads no answers.
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
			// Log only its size: it may hold a concealed option.
			w.log.Warn("input that is not JSON was ignored", "bytes", len(f.body)+f.dropped)
			clear(f.body) // or half a notification, with a preimage
			continue
		}
		if err := w.admit(f, to); err != nil {
			return fmt.Errorf("passing a message to glightning: %w", err)
		}
	}
}

// turns passes requests on, one at a time, until next is closed.
func (w *wire) turns(to io.Writer) {
	for t := range w.next {
		if _, err := to.Write(t.text); err != nil {
			return // glightning is gone: we are stopping, and nobody waits for an answer
		}
		late := time.NewTimer(maxTurn)
		select {
		case <-t.answered:
		case <-late.C:
			w.log.Error(fmt.Sprintf("a request has not been answered within %v; those after it wait no longer", maxTurn))
		case <-w.gone:
			late.Stop()
			return
		}
		late.Stop()
	}
}

// lockedWriter keeps the messages of two goroutines from mixing.
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
	if !isRequest && takeNotification(w.notices, m, f) {
		return nil
	}
	if f.dropped > 0 {
		w.refuse(id, parseError, fmt.Sprintf("the request is larger than %d bytes", maxRequest))
		return nil
	}
	if method := m["method"]; len(method) == 0 || method[0] != '"' { // glightning would not answer
		w.refuse(id, invalidRequest, "the request has no method that is a string")
		return nil
	}
	var alias string
	var answered <-chan struct{}
	if isRequest {
		w.number(id)
		if alias, answered = w.take(id); alias == "" {
			return nil // nobody would read the answer
		}
	}
	message := rewrap(m, alias)
	if !json.Valid(message) {
		w.refuse(id, parseError, "the request is not valid JSON")
		if isRequest {
			w.release(alias)
		}
		return nil
	}
	message = append(message, "\n\n"...)
	if isRequest {
		w.next <- turn{message, answered} // never blocks: it has room for every slot
		return nil
	}
	_, err := to.Write(message)
	return err
}

// number tells the collector the number of the first request, by its id.
func (w *wire) number(id []byte) {
	if w.asked || w.notices == nil {
		return
	}
	w.asked = true
	if n, ok := cln.Path(bytes.Trim(id, `"`)).Number(); ok {
		w.notices.FirstRequest(n)
	}
}

// rewrap rebuilds the message on one line from the members that count, so that
// glightning reads the same values as lightningd did.
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
		fmt.Fprintf(&b, "%q:%s", paramsField, quoteBare(v))
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

// reply passes one answer on under the id that lightningd knows. An answer
// without a request is glightning's complaint about a notification; lightningd
// would ignore it.
func (w *wire) reply(line []byte) {
	m := members(line)
	alias := string(bytes.Trim(m["id"], `"`))
	w.mu.Lock()
	r, ok := w.pending[alias]
	w.mu.Unlock()
	if !ok {
		w.log.Debug("an answer without a request was dropped", "answer", text.Quotable(string(line)))
		return
	}
	part := "result"
	if _, failed := m["error"]; failed {
		part = "error"
	}
	w.send(answer(part, unescapePlain(recode(m[part])), r.id))
	w.release(alias)
}

// recode gives an error about parameters JSON-RPC's code for such errors.
func recode(value []byte) []byte {
	const invalidParams = -32602
	text, marked := bytes.CutPrefix(value, []byte(`{"code":-1,"message":"\u0001`))
	if !marked {
		return value
	}
	return append(fmt.Appendf(nil, `{"code":%d,"message":"`, invalidParams), text...)
}

// refuse answers a request that is not passed on, with a code of JSON-RPC. A message
// without an id cannot be answered.
func (w *wire) refuse(id []byte, code int, why string) {
	w.log.Warn("a message was refused", "why", why)
	if id != nil {
		w.send(answer("error", fmt.Appendf(nil, `{"code":%d,"message":"clntrace: %s"}`, code, why), id))
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

// notify sends one log line. It blocks while lightningd does not read its pipe.
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

// take waits until there is a free slot, records a request's raw id and returns its
// alias, and a channel that is closed when it has been answered. The alias is empty if
// lightningd can no longer read answers, or does not.
func (w *wire) take(id []byte) (alias string, answered <-chan struct{}) {
	if !w.awaitSlot() {
		return "", nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.aliases++
	alias = strconv.FormatUint(w.aliases, 10)
	r := request{bytes.Clone(id), make(chan struct{})}
	w.pending[alias] = r
	return alias, r.answered
}

// awaitSlot reports whether there is a free slot now, or within maxHold.
func (w *wire) awaitSlot() bool {
	select {
	case w.slot <- struct{}{}:
		return true
	default:
	}
	if w.hung.Load() {
		return false
	}
	hold := time.NewTimer(maxHold)
	defer hold.Stop()
	select {
	case w.slot <- struct{}{}:
		return true
	case <-w.gone:
	case <-hold.C:
		w.hung.Store(true)
		w.log.Warn(fmt.Sprintf("lightningd has not read the answers to %d requests for %v: further ones are dropped until it does", maxInFlight, maxHold))
	}
	return false
}

// release forgets a request that has been answered.
func (w *wire) release(alias string) {
	w.hung.Store(false)
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.pending[alias].answered)
	delete(w.pending, alias)
	<-w.slot
	if len(w.pending) == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

// drain waits until every request has been answered, or ctx is done.
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
