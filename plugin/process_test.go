package plugin

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// child is the test binary as another program.
func child(t *testing.T, what string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), append(env, childEnv+"="+what)...)
	return cmd
}

func TestStdoutIsForTheProtocolAlone(t *testing.T) {
	cmd := child(t, "stdout")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if stdout.String() != "protocol" || stderr.String() != "noise from fmt\nnoise from afar\n" {
		t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
	}
}

func TestProcess(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "trace.sock")
	cmd := child(t, "plugin", "LIGHTNINGD_PLUGIN=1", "LIGHTNINGD_VERSION=v26.06.6", "CLN_TRACE_SOCKET="+socket,
		// What makes glightning noisy, or end the process.
		"GOLIGHT_DEBUG_IO=1", "GOLIGHT_DEBUG_LOGFILE=/nonexistent/log", "GOLIGHT_STRICT_MODE=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write([]byte(msgGetManifest)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), `{"jsonrpc":"2.0","id":"cln:getmanifest#20","result":{`) {
		if text := lines.Text(); text != "" && !strings.HasPrefix(text, `{"jsonrpc":"2.0","method":"log",`) {
			t.Errorf("on stdout: %s", text)
		}
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Type() != os.ModeSocket {
		t.Errorf("getmanifest was answered without a socket: %v", err)
	}
	// A log rotation that reaches all of lightningd's children, and a stop that
	// is asked for twice.
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGTERM} {
		_ = cmd.Process.Signal(s) // the second SIGTERM may come too late
	}
	var reason string
	for lines.Scan() {
		if strings.Contains(lines.Text(), "stopping") {
			reason = lines.Text()
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
	if !strings.Contains(reason, "signal terminated") {
		t.Errorf("it stopped because of %q", reason)
	}
	if stderr.Len() > 0 {
		t.Errorf("on stderr: %s", stderr.String())
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}
