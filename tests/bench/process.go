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
	// patience is how long what should take no time may take.
	patience = 30 * time.Second
	// killDelay is from a request to end until the end.
	killDelay = 5 * time.Second
	// memoryInterval is how often a process's memory is read.
	memoryInterval = 50 * time.Millisecond
	// probeInterval is how often we look whether a process is ready.
	probeInterval = 5 * time.Millisecond
	// maxLines of output wait for somebody to read them.
	maxLines = 1024
	// tailLen is how much of the standard error is kept, in bytes.
	tailLen = 8 << 10
)

// process is one that we have started, and end.
type process struct {
	name   string
	cmd    *exec.Cmd
	end    context.CancelFunc
	stdin  io.WriteCloser
	lines  chan string // of its standard output; closed at the end
	errors tail
	exited chan struct{}
	err    error        // how it exited; after exited
	peak   atomic.Int64 // memory, bytes, as last seen
}

// start starts a program. It ends with ctx, at the latest.
func (b *bench) start(ctx context.Context, env []string, program string, args ...string) (*process, error) {
	ctx, end := context.WithCancel(ctx)
	p := &process{
		name: filepath.Base(program), cmd: exec.CommandContext(ctx, program, args...), end: end,
		lines: make(chan string, maxLines), exited: make(chan struct{}),
	}
	p.cmd.Dir = b.dir
	// Nothing of the user's environment decides about the numbers, such as OTEL_… or GOGC.
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir}, env...)
	p.cmd.Stderr = &p.errors
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = killDelay
	// Should we be killed, nothing stays behind. The group of its own is so that
	// an interrupt from the terminal reaches only us.
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
	go p.weigh()
	return p, nil
}

// watch reads the output and waits for the end.
func (p *process) watch(stdout io.Reader) {
	for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
		p.lines <- scanner.Text()
	}
	close(p.lines)
	p.err = p.cmd.Wait()
	p.end()
	close(p.exited)
}

// weigh looks at the peak of the memory while the process lives.
func (p *process) weigh() {
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

// await returns when there is what the process is to bring about: when probe succeeds.
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

// stop asks the process to end and returns what it still had to say.
func (p *process) stop(ctx context.Context) (string, error) {
	p.notePeak()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // if it has ended, err tells how
	return p.wait(ctx)
}

// wait waits for the end and returns the rest of the output.
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

// abandon ends the process, however it is; it does nothing after wait.
func (p *process) abandon() {
	p.end()
	for range p.lines { // so that it does not wait for us
	}
	<-p.exited
}

// failure is an error with what the process said about it; after exited.
func (p *process) failure(err error) error {
	return fmt.Errorf("%s: %w\n%s", p.name, err, p.errors.kept)
}

// usage is what the process used from beginning to end; after exited.
func (p *process) usage() (cpu time.Duration, peak int64) {
	state := p.cmd.ProcessState
	cpu = state.UserTime() + state.SystemTime()
	// The kernel begins a child's ru_maxrss with the memory of the process that
	// started it, so it says something only if it is above ours. Otherwise
	// VmHWM does, as of a moment ago.
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
