package collector

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"clntrace/collector/export"
	"clntrace/collector/memory"
	"clntrace/collector/metrics"
	"clntrace/collector/otlp"
	"clntrace/collector/payments"
	"clntrace/collector/policy"
	"clntrace/collector/recorder"
	"clntrace/collector/socket"
	"clntrace/collector/stats"
	"clntrace/collector/text"
	"clntrace/collector/voice"
)

// Options is what a Collector needs before its configuration is known.
type Options struct {
	// SocketPath is where to listen: the value of CLN_TRACE_SOCKET.
	SocketPath string
	// SocketProblem, if set, tells the user why there is no SocketPath.
	SocketProblem string
	// Lightningd is the pid of the node. If it is 0, unknown, the parent process of
	// each sender is taken for its node.
	Lightningd int
	// TraceParent is the value of CLN_TRACEPARENT: a parent whose span never comes.
	TraceParent string
	// Notified says that lightningd's notifications come through Notify.
	Notified bool
	Version  string // of clntrace
	// Voice names options and commands in warnings and in the log.
	Voice  voice.Voice
	Logger *slog.Logger
}

// Node identifies the node whose spans these are. Empty fields are unknown.
type Node = export.Node

// Collector receives, counts and exports spans.
type Collector struct {
	options  Options
	log      *slog.Logger
	started  time.Time
	now      func() time.Time // for Stats
	receiver *socket.Receiver // nil: there is no SocketPath
	intake   intake           // of notifications
	// firstRequest is the number of lightningd's first request to us; 0: unknown.
	firstRequest atomic.Uint64
	payments     tracked
	room         *memory.Room
	policy       atomic.Pointer[policy.Policy] // nil before Start
	ledger       *stats.Ledger
	table        *stats.Operations
	recorder     atomic.Pointer[recorder.Recorder] // nil: no trace is to be kept, or not started
	recorderSize int64                             // bytes, set before recorder is
	pipeline     *export.Pipeline
	metrics      atomic.Pointer[metrics.Metrics] // nil: not wanted, or not started
	begin        chan struct{}                   // closed by Start
	decoding     chan struct{}                   // closed when the decoder has ended
	asked        chan func(*decoder)             // what only the decoder knows
	seen         seen                            // by the decoder
	waits        waits
	grown        growth
	hurry        chan struct{} // closed by endDecoding: the decoder must not go on

	endDecoding func()

	mu       sync.Mutex
	cfg      Config
	running  bool     // Start was called
	problems []string // options that cannot be used
	unsent   error    // why metrics are not sent, or go to another endpoint than spans; nil: neither
}

// Open binds the socket and begins to receive and count. It does not fail: if the
// socket cannot be bound the collector is degraded, and its Stats say why.
func Open(o Options) *Collector {
	c := &Collector{
		options: o, log: o.Logger, started: time.Now(), now: time.Now,
		room:   memory.NewRoom(export.DefaultQueueSize, export.SpanOverhead),
		ledger: new(stats.Ledger), table: stats.NewOperations(),
		begin: make(chan struct{}), decoding: make(chan struct{}), asked: make(chan func(*decoder)), hurry: make(chan struct{}),
		intake: newIntake(), payments: newTracked(),
	}
	c.endDecoding = sync.OnceFunc(func() { close(c.hurry) })
	c.allow(nil)
	if o.SocketProblem == "" {
		c.receiver = socket.Open(o.SocketPath, o.Logger, o.Voice)
	} else {
		o.Logger.Warn("no span can be received: " + o.SocketProblem)
	}
	c.pipeline = export.NewPipeline(export.Options{
		Ledger: c.ledger, Room: c.room, Policy: c.policy.Load,
		Logger: o.Logger, Version: o.Version, Yield: c.yield, Voice: o.Voice,
	})
	go c.decode()
	return c
}

// allow accepts the datagrams of our own user, of root and of uids.
func (c *Collector) allow(uids []uint32) {
	set := map[uint32]bool{0: true, uint32(os.Geteuid()): true} //nolint:gosec // a uid has 32 bits
	for _, uid := range uids {
		set[uid] = true
	}
	if c.receiver != nil {
		c.receiver.Allow(set, len(uids) > 0)
	}
}

// Start begins to export, as cfg says, what has been received since Open and what
// follows. problems are sentences about options that cannot be used. If there are
// any, the collector is degraded and exports nothing until a Reconfigure without
// them.
func (c *Collector) Start(cfg Config, problems []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		return
	}
	c.running = true
	c.allow(cfg.AllowUIDs)
	c.cfg, c.problems = usable(cfg, problems), problems
	c.policy.Store(policyOf(c.cfg)) // before anything that is on disk can leave
	if err := c.pipeline.Start(c.cfg.Config); err != nil {
		c.problems = append(c.problems, err.Error())
		c.cfg = usable(c.cfg, c.problems)
		c.policy.Store(policyOf(c.cfg))
		c.log.Error(err.Error())
	}
	c.room.SetLimit(c.cfg.QueueSize)
	if c.cfg.RecorderSize > 0 {
		c.recorderSize = int64(c.cfg.RecorderSize) << 20
		c.recorder.Store(recorder.New(c.recorderSize))
	}
	c.startMetrics()
	close(c.begin)
	if c.socketStatus().Listening { // if not, that has been logged
		c.log.Info(c.introduction())
	}
}

// FirstRequest says which number lightningd gave to its first request to us. Requests
// with lower ones began before us, and another clntrace may have exported their roots.
// Call it before Start.
func (c *Collector) FirstRequest(number uint64) { c.firstRequest.Store(number) }

// UntilCorrected says what follows from options that cannot be used.
const UntilCorrected = "Nothing is exported until the options are corrected, and spans count as filtered"

// usable is cfg if there are no problems. If there are, nothing may leave the
// node: the faulty option may have been meant to hold something back.
func usable(cfg Config, problems []string) Config {
	if len(problems) > 0 {
		cfg.Endpoint = otlp.OffEndpoint
	}
	return cfg
}

// PreferReceiving lowers the priority of all threads of the process but the
// receiving one, below that of the node's processes too. It cannot be undone.
func (c *Collector) PreferReceiving() {
	if c.receiver == nil {
		return
	}
	if err := c.receiver.Prefer(); err != nil {
		c.log.Info("receiving has no precedence over other work", "error", err)
	}
}

// SetNode says which node the spans are from. Exporting waits for it, for at most
// 5 s from Start.
func (c *Collector) SetNode(n Node) {
	c.pipeline.SetNode(n)
	if m := c.metrics.Load(); m != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		m.SetResource(c.ownResource(n))
	}
}

// Reconfigure applies the fields of cfg that can change at run time: Endpoint,
// Headers, SampleRatio, DropSpans, RedactTags and Payments. problems are as in Start. An
// error says what cannot be used, and means that nothing has changed.
func (c *Collector) Reconfigure(cfg Config, problems []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	cfg = usable(cfg, problems)
	connection := cfg.Endpoint != c.cfg.Endpoint || !maps.Equal(cfg.Headers, c.cfg.Headers)
	if connection {
		if err := c.pipeline.Connect(cfg.Config); err != nil {
			return err
		}
	}
	c.cfg, c.problems = cfg, problems
	before := c.policy.Load()
	c.policy.Store(policyOf(cfg))
	c.pipeline.PolicyChanged()
	if c.policy.Load().HidesMore(before) {
		c.forget()
	}
	if connection {
		c.moveMetrics()
	}
	return nil
}

// forget forgets what was written with more names than may be shown now. The sums of
// statistics and metrics stay, without those that may not.
func (c *Collector) forget() {
	if r := c.recorder.Load(); r != nil {
		r.Clear()
	}
	c.waits.forget()
	if c.policy.Load().Payments() == payments.Off {
		c.table.ForgetPayments()
	}
}

// Shutdown stops receiving, removes the socket, and exports what is left until ctx
// is done. The error says how many spans could be neither exported nor spooled.
func (c *Collector) Shutdown(ctx context.Context) error {
	if c.receiver != nil {
		c.receiver.Close()
		c.awaitDecoder(ctx)
	}
	left := c.pipeline.Shutdown(ctx)
	if m := c.metrics.Load(); m != nil {
		m.Shutdown(ctx)
	}
	if left > 0 {
		return fmt.Errorf("%s could be neither delivered nor kept on disk in time", text.Number(left, "span is lost: it", "spans are lost: they"))
	}
	return nil
}

// awaitDecoder waits until the decoder has decoded all that came, but at most for half
// of the time that ctx leaves: the other half is for the export and for the spool. What
// is not decoded by then is counted as dropped.
func (c *Collector) awaitDecoder(ctx context.Context) {
	if deadline, ok := ctx.Deadline(); ok {
		timer := time.AfterFunc(time.Until(deadline)/2, c.endDecoding)
		defer timer.Stop()
	}
	<-c.decoding
}

// hurried reports whether the decoder must not go on. Then it discards what is left.
func (c *Collector) hurried() bool {
	select {
	case <-c.hurry:
		c.receiver.Discard()
		return true
	default:
		return false
	}
}
