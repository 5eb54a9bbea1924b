//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// patience bounds what should take no time at all.
	patience = 30 * time.Second
	// killDelay is how long after SIGTERM a process is killed.
	killDelay = 5 * time.Second
	// memoryInterval is how often a process's memory is read.
	memoryInterval = 50 * time.Millisecond
	// probeInterval is how often we look whether a process is ready.
	probeInterval = 5 * time.Millisecond
	// maxLines is how many lines of output wait to be read.
	maxLines = 1024
	// tailLen is how much of the standard error is kept, in bytes.
	tailLen = 8 << 10
)

// process is a process that we have started.
type process struct {
	name   string
	cmd    *exec.Cmd
	end    context.CancelFunc
	stdin  io.WriteCloser
	lines  chan string // of its standard output; closed at the end
	errors tail
	exited chan struct{} // closed when it has exited
	err    error         // how it exited; valid after exited
	peak   atomic.Int64  // memory, bytes, as last seen
}

// start starts a program, which is ended when ctx is done at the latest.
func (b *bench) start(ctx context.Context, env []string, program string, args ...string) (*process, error) {
	ctx, end := context.WithCancel(ctx)
	p := &process{
		name: filepath.Base(program), cmd: exec.CommandContext(ctx, program, args...), end: end,
		lines: make(chan string, maxLines), exited: make(chan struct{}),
	}
	p.cmd.Dir = b.dir
	// Variables of the user, such as OTEL_… or GOGC, must not influence the results.
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir}, env...)
	p.cmd.Stderr = &p.errors
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = killDelay
	// If we are killed, nothing is left running. It has a process group of its own
	// so that an interrupt from the terminal reaches only us.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	var stdout io.ReadCloser
	err := b.namespace.do(func() (err error) {
		if p.stdin, err = p.cmd.StdinPipe(); err != nil {
			return err
		}
		if stdout, err = p.cmd.StdoutPipe(); err != nil {
			return err
		}
		return p.cmd.Start()
	})
	if err != nil {
		end()
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	go p.watch(stdout)
	go p.recordPeak()
	return p, nil
}

// watch reads the output, and waits for the process to exit.
func (p *process) watch(stdout io.Reader) {
	for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
		p.lines <- scanner.Text()
	}
	close(p.lines)
	p.err = p.cmd.Wait()
	p.end()
	close(p.exited)
}

// recordPeak records the peak of the memory while the process runs.
func (p *process) recordPeak() {
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	for {
		p.notePeak()
		select {
		case <-ticker.C:
		case <-p.exited:
			return
		}
	}
}

func (p *process) notePeak() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return // it has ended
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	text, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	if kib, err := strconv.ParseInt(text, 10, 64); err == nil {
		p.peak.Store(kib << 10)
	}
}

// line returns the next line of the output.
func (p *process) line(ctx context.Context) (string, error) {
	select {
	case line, open := <-p.lines:
		if !open {
			<-p.exited
			return "", p.failure(errors.New("it ended too soon"))
		}
		return line, nil
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for %s: %w", p.name, context.Cause(ctx))
	}
}

// await waits until probe succeeds: until the process has brought about what.
func (p *process) await(ctx context.Context, what string, probe func() error) error {
	for {
		last := probe()
		if last == nil {
			return nil
		}
		select {
		case <-p.exited:
			return p.failure(fmt.Errorf("it ended without %s: %w", what, p.err))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to bring %s: %w", p.name, what, errors.Join(context.Cause(ctx), last))
		case <-time.After(probeInterval):
		}
	}
}

// stop asks the process to end, and returns the rest of its output.
func (p *process) stop(ctx context.Context) (string, error) {
	p.notePeak()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // if it has ended, p.err says how
	return p.wait(ctx)
}

// wait waits for the process to exit, and returns the rest of its output.
func (p *process) wait(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var output strings.Builder
	for {
		select {
		case line, open := <-p.lines:
			if open {
				output.WriteString(line + "\n")
				continue
			}
			<-p.exited
			if p.err != nil {
				return "", p.failure(p.err)
			}
			return output.String(), nil
		case <-ctx.Done():
			return "", fmt.Errorf("%s does not end: %w", p.name, ctx.Err())
		}
	}
}

// abandon ends the process, whatever its state. It does nothing after wait.
func (p *process) abandon() {
	p.end()
	for range p.lines { // so that watch does not block
	}
	<-p.exited
}

// failure adds the end of the process's standard error to err. Call it after exited.
func (p *process) failure(err error) error {
	return fmt.Errorf("%s: %w\n%s", p.name, err, p.errors.kept)
}

// usage returns what the process used from start to exit. Call it after exited.
func (p *process) usage() (cpu time.Duration, peak int64) {
	state := p.cmd.ProcessState
	cpu = state.UserTime() + state.SystemTime()
	// A child's ru_maxrss starts with the memory of the process that started it, so
	// it is of use only if it is greater than ours. Otherwise take VmHWM, as last
	// seen.
	var own syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &own) // it cannot fail
	if used, ok := state.SysUsage().(*syscall.Rusage); ok && used.Maxrss > own.Maxrss {
		return cpu, used.Maxrss << 10
	}
	return cpu, p.peak.Load()
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - tailLen; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(b), nil
}
