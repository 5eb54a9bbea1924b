//go:build linux

package deploy

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"clntrace/tests/lightningdtest"
	"clntrace/tests/otlptest"
	"clntrace/tests/wait"
)

// decisionWait is the sampling tier's in the tests: much longer than the 5 s
// after which a payment's root comes, for a busy machine may delay the root.
const decisionWait = 20 * time.Second

// otelcol is a Collector with a configuration of the fleet.
type otelcol struct {
	address string // where it listens

	t      testing.TB
	config string
	env    []string
	log    lightningdtest.Buffer
	cmd    *exec.Cmd // nil: it does not run
}

// startCollector starts a Collector, which ends with the test, if not before.
func startCollector(t testing.TB, config string, env ...string) *otelcol {
	t.Helper()
	c := &otelcol{address: otlptest.FreeAddress(t), t: t, config: config}
	c.env = append(os.Environ(), "LISTEN="+c.address, "METRICS_LEVEL=none", "DECISION_WAIT="+decisionWait.String())
	c.env = append(c.env, env...)
	c.start()
	t.Cleanup(c.stop)
	return c
}

// start starts it, again after kill or stop at the same address.
func (c *otelcol) start() {
	c.t.Helper()
	program := collector
	if other := os.Getenv("OTELCOL_CONTRIB"); other != "" {
		program = other
	}
	c.cmd = exec.Command(program, "--config=file:"+c.config)
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = c.env, &c.log, &c.log
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	wait.For(c.t, c.config+" to listen", func() bool {
		conn, err := net.Dial("tcp", c.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// stop ends it, once it has made its decisions and sent what they keep.
func (c *otelcol) stop() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	if err := c.cmd.Wait(); err != nil || c.t.Failed() {
		c.t.Errorf("%s: %v: %s", c.config, err, c.log.String())
	}
	c.cmd = nil
}

// kill ends it without a chance to do anything.
func (c *otelcol) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	c.cmd = nil
}

// fleet is a gateway before sampling Collectors, each of which has a receiver of its
// own in place of the backend, so that it shows where a trace has been.
type fleet struct {
	gateway  *otelcol
	sampling []*otelcol
	places   []*otlptest.Receiver
	tempo    *tempo // gets what they keep; nil: there is none
}

// needGateway skips what needs the load-balancing exporter, which takes minutes to build.
func needGateway(t testing.TB) {
	t.Helper()
	if os.Getenv("OTELCOL_CONTRIB") == "" {
		t.Skip("OTELCOL_CONTRIB names no Collector with the load-balancing exporter: go build -C tests -tags=gateway -o /path/to/otelcol ./otelcol")
	}
}

// startFleet starts a fleet with pools of two sampling Collectors.
func startFleet(t *testing.T, pools int) *fleet {
	t.Helper()
	needGateway(t)
	f := &fleet{tempo: startTempo(t)}
	for range 2 * pools {
		r := otlptest.Start(t)
		if f.tempo != nil {
			r.SetAnswer(f.tempo.relay)
		}
		f.places = append(f.places, r)
		f.sampling = append(f.sampling, startCollector(t, "fleet/sampling.yaml", "BACKEND="+strings.TrimPrefix(r.GRPCEndpoint(), "http://")))
	}
	env := []string{fmt.Sprintf("SAMPLING=[%s, %s]", f.sampling[0].address, f.sampling[1].address)}
	if pools == 2 {
		env = append(env, fmt.Sprintf("SECOND=[%s, %s]", f.sampling[2].address, f.sampling[3].address), "EXPORTERS=[loadbalancing, loadbalancing/second]")
	}
	f.gateway = startCollector(t, "fleet/gateway.yaml", env...)
	return f
}

// signal sends all sampling Collectors a signal.
func (f *fleet) signal(s syscall.Signal) {
	for _, c := range f.sampling {
		_ = c.cmd.Process.Signal(s)
	}
}

// stop ends it, from the nodes' end on.
func (f *fleet) stop() {
	f.gateway.stop()
	for _, c := range f.sampling {
		c.stop()
	}
}
