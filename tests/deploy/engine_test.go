//go:build linux

package deploy

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"clntrace/tests/lightningdtest/trace"
	"clntrace/tests/recording"
	"clntrace/tests/wait"
)

// engine is a container engine: its command line, as CONTAINER_ENGINE has it.
type engine []string

// run runs a command of the engine and returns what it says.
func (e engine) run(t *testing.T, input []byte, args ...string) string {
	t.Helper()
	args = slices.Concat(e[1:], args)
	cmd := exec.Command(e[0], args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", e[0], strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// cleanUp undoes with the test; what is already gone is no fault.
func (e engine) cleanUp(t *testing.T, args ...string) {
	t.Helper()
	t.Cleanup(func() { _ = exec.Command(e[0], slices.Concat(e[1:], args)...).Run() })
}

// flags are those of "run" for a service of a Compose file, without its network.
func flags(s types.ServiceConfig, volume func(string) string) []string {
	list := []string{"--network=none", "--user=" + s.User}
	for name, value := range s.Sysctls {
		list = append(list, "--sysctl="+name+"="+value)
	}
	for _, v := range s.Volumes {
		list = append(list, "--volume="+volume(v.Source)+":"+v.Target)
	}
	for _, c := range s.CapDrop {
		list = append(list, "--cap-drop="+c)
	}
	for _, o := range s.SecurityOpt {
		list = append(list, "--security-opt="+o)
	}
	if s.ReadOnly {
		list = append(list, "--read-only")
	}
	if s.MemLimit > 0 {
		list = append(list, fmt.Sprintf("--memory=%d", s.MemLimit))
	}
	return list
}

// image is a root file system with clntrace and its spool where the Dockerfile
// puts them, and a sender in the place of lightningd.
func image(t *testing.T) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "spool/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: nodeUser, Gid: nodeUser}); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"clntrace": clntrace, "lightningd": sender} {
		binary, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(binary))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(binary); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// The sidecar of the Compose files in a real engine, beside a node's container.
func TestEngine(t *testing.T) {
	e := engine(strings.Fields(os.Getenv("CONTAINER_ENGINE")))
	if len(e) == 0 {
		t.Skip("set CONTAINER_ENGINE to docker or podman")
	}
	p := loadCompose(t, "docker/compose.yaml", "docker/compose.sidecar.yaml")
	name := func(s string) string { return fmt.Sprintf("clntrace-test-%d-%s", os.Getpid(), s) }
	e.run(t, image(t), "import", "-", name("image"))
	e.cleanUp(t, "rmi", "--force", name("image"))
	for volume, v := range p.Volumes {
		create := []string{"volume", "create"}
		for _, option := range slices.Sorted(maps.Keys(v.DriverOpts)) {
			create = append(create, "--opt="+option+"="+v.DriverOpts[option])
		}
		e.run(t, nil, append(create, name(volume))...)
		e.cleanUp(t, "volume", "rm", "--force", name(volume))
	}

	service := p.Services["lightningd"]
	node := exec.Command(e[0], slices.Concat(e[1:], []string{"run", "--interactive", "--name=" + name("node"),
		"--env=CLN_TRACE_SOCKET=" + composeSocket(t, p)}, flags(service, name), []string{name("image"), "/lightningd"})...)
	var complaints bytes.Buffer
	node.Stderr = &complaints
	orders, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		orders.Close()
		_ = node.Wait() // it may have been removed before it could end
		if t.Failed() {
			t.Logf("the node: %s", complaints.String())
		}
	})
	e.cleanUp(t, "rm", "--force", name("node"))
	wait.For(t, "the node's container", func() bool {
		out, err := exec.Command(e[0], slices.Concat(e[1:], []string{"inspect", "--format={{.State.Running}}", name("node")})...).Output()
		return err == nil && strings.TrimSpace(string(out)) == "true"
	})

	// The host's pid namespace holds those of all containers.
	for _, pids := range []string{"container:" + name("node"), "host"} {
		t.Run("in the pid namespace of "+strings.SplitN(pids, ":", 2)[0], func(t *testing.T) {
			checkEngineSidecar(t, e, p, name, pids, func() bool {
				order := trace.Order{Payloads: recording.Numbered("extend_tip", 1, 1), Patience: wait.Limit}
				if err := json.NewEncoder(orders).Encode(order); err != nil {
					t.Fatal(err)
				}
				var outcome trace.Outcome
				if err := json.NewDecoder(outcomes).Decode(&outcome); err != nil {
					t.Fatal(err)
				}
				return outcome.Errnos[0] == 0
			})
		})
	}
}

// checkEngineSidecar starts the sidecar's container in a pid namespace and
// expects that it gets and names a span, which send sends from the node's.
func checkEngineSidecar(t *testing.T, e engine, p *types.Project, name func(string) string, pids string, send func() bool) {
	t.Helper()
	sidecar := p.Services["clntrace"]
	e.run(t, nil, slices.Concat([]string{"run", "--detach", "--name=" + name("sidecar"), "--pid=" + pids},
		flags(sidecar, name), []string{name("image")}, entrypoint(loadStages(t)[sidecar.Build.Target]), sidecar.Command)...)
	e.cleanUp(t, "rm", "--force", name("sidecar"))
	wait.For(t, "the sidecar to take a span", send)
	e.run(t, nil, "stop", fmt.Sprintf("--time=%d", wait.Limit/time.Second), name("sidecar"))
	tables := strings.Join(strings.Fields(e.run(t, nil, "logs", name("sidecar"))), " ")
	for _, want := range []string{"senders lightningd 1 ", "queue holds 513", " spooled", filepath.Base(composeSocket(t, p))} {
		if !strings.Contains(tables, want) {
			t.Errorf("want %q: %s", want, tables)
		}
	}
}
