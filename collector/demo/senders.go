package demo

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"clntrace/collector/recording"
)

// SenderCommand is the argument with which the demo starts itself as a sender.
const SenderCommand = "demo-sender"

// work stands for the work that a process of a node does between two spans. Without
// it the senders would keep a short queue full, as no node does.
const work = 50 * time.Microsecond

// Sender runs a sender process: it sends each frame of in to the socket as one
// datagram, and says so with a byte on out, until in ends. Like a node's processes it
// stays after its last span.
func Sender(socket string, in io.Reader, out io.Writer) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: socket})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	frames := bufio.NewReader(in)
	for {
		var size uint16
		if err := binary.Read(frames, binary.LittleEndian, &size); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		frame := make([]byte, size)
		if _, err := io.ReadFull(frames, frame); err != nil {
			return err
		}
		// Unlike lightningd this waits for room in the kernel's queue, so that the
		// demo shows every span.
		if _, err := conn.Write(frame); err != nil {
			return err
		}
		time.Sleep(work)
		if _, err := out.Write([]byte{0}); err != nil {
			return err
		}
	}
}

// senders are processes that stand in for those of the recording, one for each, with
// executables of the same names, by which clntrace tells them apart.
type senders struct {
	dir, socket string
	byPID       map[int]*sender
	last        *sender // whose turn it was last; nil: it was nobody's
}

type sender struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     io.Reader
	waiting int64 // frames that it may not have sent yet
}

// send passes d to the process that stands in for its sender, once all before d have
// been sent: the order of the recording is part of what it says. lightningd, for one,
// works on a request before the plugin that made it sends the request's span.
func (s *senders) send(ctx context.Context, d recording.Datagram) error {
	from := s.byPID[d.PID]
	if from == nil {
		var err error
		if from, err = s.start(ctx, d.Exe); err != nil {
			return fmt.Errorf("starting a sender named %s: %w", d.Exe, err)
		}
		s.byPID[d.PID] = from
	}
	if s.last != from {
		if err := s.last.sent(); err != nil {
			return err
		}
		s.last = from
	}
	frame := binary.LittleEndian.AppendUint16(nil, uint16(len(d.Payload))) //nolint:gosec // a span has 2,048 bytes at most
	from.waiting++
	_, err := from.in.Write(append(frame, d.Payload...))
	return err
}

// sent waits until a sender has sent all that it was given.
func (f *sender) sent() error {
	if f == nil {
		return nil
	}
	if _, err := io.CopyN(io.Discard, f.out, f.waiting); err != nil {
		return fmt.Errorf("waiting for a sender named %s: %w", filepath.Base(f.cmd.Path), err)
	}
	f.waiting = 0
	return nil
}

func (s *senders) start(ctx context.Context, name string) (*sender, error) {
	program, err := s.program(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, SenderCommand, s.socket)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w; no program may run from that directory: set TMPDIR to one where that is allowed", err)
	} else if err != nil {
		return nil, err
	}
	return &sender{cmd: cmd, in: in, out: out}, nil
}

// program makes this executable available under another name, and returns its path.
func (s *senders) program(name string) (string, error) {
	path := filepath.Join(s.dir, filepath.Base(name))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// Make one copy and link to that: the executable itself may be on another file
	// system, or we may not be allowed to link to it.
	master := filepath.Join(s.dir, ".clntrace")
	if _, err := os.Stat(master); err != nil {
		if err := copySelf(master); err != nil {
			return "", err
		}
	}
	return path, os.Link(master, path)
}

func copySelf(to string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	from, err := os.Open(self)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close())
}

// stop ends all senders, at the same time, and waits for them.
func (s *senders) stop() error {
	var errs []error
	for _, from := range s.byPID {
		errs = append(errs, from.in.Close())
	}
	for _, from := range s.byPID {
		errs = append(errs, from.cmd.Wait())
	}
	return errors.Join(errs...)
}
