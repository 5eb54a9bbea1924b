package lightningdtest

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"clntrace/tests/lightningdtest/trace"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// Senders are the processes that send trace datagrams: lightningd and its
// plugins. Each is a process of its own under its own name.
type Senders struct {
	t       testing.TB
	program string
	bin     string // where the program is, under many names
	dir     string // working directory
	socket  string // CLN_TRACE_SOCKET
	byPID   map[int]*Sender
}

// Senders returns the node's senders, none of which has been started. program is what
// BuildSender has built.
func (n *Node) Senders(program string) *Senders {
	n.t.Helper()
	return &Senders{t: n.t, program: program, bin: Dir(n.t), dir: n.Dir, socket: n.TraceSocket, byPID: map[int]*Sender{}}
}

// SendersTo returns senders that send to socket, without a node.
func SendersTo(t testing.TB, program, socket string) *Senders {
	t.Helper()
	dir := Dir(t)
	return &Senders{t: t, program: program, bin: dir, dir: dir, socket: socket, byPID: map[int]*Sender{}}
}

// Start starts a process with that name. It ends with the test.
func (s *Senders) Start(exe string) *Sender {
	s.t.Helper()
	return s.StartAs(exe, nil)
}

// StartAs starts a process as another user, which needs root.
func (s *Senders) StartAs(exe string, c *syscall.Credential) *Sender {
	s.t.Helper()
	path := filepath.Join(s.bin, exe)
	if err := hardLink(s.program, path); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Dir = s.dir
	cmd.Env = []string{"CLN_TRACE_SOCKET=" + s.socket}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	sender := &Sender{Exe: exe, cmd: cmd, stdin: stdin, orders: json.NewEncoder(stdin), outcomes: json.NewDecoder(stdout)}
	s.t.Cleanup(func() {
		if err := sender.Exit(); err != nil {
			s.t.Errorf("sender %s: %v", exe, err)
		}
	})
	return sender
}

// Replay sends a recording in order, each datagram from the process that stands for
// the one that sent it. No datagram is lost: see Sender.SendPatiently.
func (s *Senders) Replay(datagrams []recording.Datagram) {
	s.t.Helper()
	for len(datagrams) > 0 {
		sender := s.For(datagrams[0])
		var payloads [][]byte
		for len(datagrams) > 0 && s.For(datagrams[0]) == sender {
			payloads = append(payloads, datagrams[0].Payload)
			datagrams = datagrams[1:]
		}
		if err := sender.SendPatiently(payloads...); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Flood sends a recording from all of its processes at the same time, once
// each, as fast as they can. It returns how many datagrams the kernel took.
func (s *Senders) Flood(datagrams []recording.Datagram) int {
	s.t.Helper()
	payloads := map[*Sender][][]byte{}
	for _, d := range datagrams {
		sender := s.For(d)
		payloads[sender] = append(payloads[sender], d.Payload)
	}
	var (
		mu   sync.Mutex
		sent int
		all  sync.WaitGroup
	)
	for sender, p := range payloads {
		all.Go(func() {
			errnos, err := sender.Send(p...)
			if err != nil {
				s.t.Errorf("sender %s: %v", sender.Exe, err)
			}
			mu.Lock()
			defer mu.Unlock()
			sent += Sent(errnos)
		})
	}
	all.Wait()
	return sent
}

// For returns the process that stands for the one that sent d when it was
// recorded, and starts it if it does not run yet.
func (s *Senders) For(d recording.Datagram) *Sender {
	s.t.Helper()
	if s.byPID[d.PID] == nil {
		s.byPID[d.PID] = s.Start(d.Exe)
	}
	return s.byPID[d.PID]
}

// Sender is one process that sends datagrams.
type Sender struct {
	Exe string // its executable's base name

	cmd      *exec.Cmd
	stdin    io.WriteCloser
	once     sync.Once
	mu       sync.Mutex // one order at a time
	orders   *json.Encoder
	outcomes *json.Decoder
}

// PID is the process's.
func (s *Sender) PID() int { return s.cmd.Process.Pid }

// Send sends each datagram once, as lightningd does, and returns what sendto returned
// for each. EAGAIN means that the datagram is lost because the receiver's queue was
// full.
func (s *Sender) Send(payloads ...[]byte) ([]syscall.Errno, error) {
	return s.order(trace.Order{Payloads: payloads})
}

// SendPatiently sends each datagram and waits while the queue is full, so that
// nothing is lost, whatever the kernel's queue limit is.
func (s *Sender) SendPatiently(payloads ...[]byte) error {
	errnos, err := s.order(trace.Order{Payloads: payloads, Patience: wait.Limit / 2})
	if err != nil {
		return fmt.Errorf("sender %s: %w", s.Exe, err)
	}
	for i, errno := range errnos {
		if errno != 0 {
			return fmt.Errorf("sender %s: datagram %d: %w", s.Exe, i, os.NewSyscallError("sendto", errno))
		}
	}
	return nil
}

func (s *Sender) order(o trace.Order) ([]syscall.Errno, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.orders.Encode(o); err != nil {
		return nil, err
	}
	var outcome trace.Outcome
	if err := s.outcomes.Decode(&outcome); err != nil {
		return nil, err
	}
	return outcome.Errnos, nil
}

// Exit ends the process and waits until it is gone, from /proc too.
func (s *Sender) Exit() (err error) {
	s.once.Do(func() {
		killed := time.AfterFunc(wait.Limit, func() { _ = s.cmd.Process.Kill() })
		defer killed.Stop()
		_ = s.stdin.Close() // a process that died before has closed it
		err = s.cmd.Wait()
	})
	return err
}

// Sent counts the datagrams that the kernel took.
func Sent(errnos []syscall.Errno) (n int) {
	for _, errno := range errnos {
		if errno == 0 {
			n++
		}
	}
	return n
}

// hardLink gives a program another name: for the kernel, a process's executable is
// the name under which it was started.
func hardLink(program, path string) error {
	err := os.Link(program, path)
	if err == nil || os.IsExist(err) {
		return nil
	}
	b, err := os.ReadFile(program) // another file system
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o755)
}
