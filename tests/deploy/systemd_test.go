//go:build linux

package deploy

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"

	"clntrace/tests/lightningdtest"
)

// lightningdUnit is a unit as Core Lightning brings one along, as far as the
// recipes meet it.
const lightningdUnit = `[Unit]
Description=lightningd
[Service]
ExecStart=/bin/true --conf /etc/lightningd/lightningd.conf
RuntimeDirectory=lightningd
User=root
PrivateTmp=true
ProtectSystem=full
NoNewPrivileges=true
PrivateDevices=true
MemoryDenyWriteExecute=true
`

// installed is where the recipes expect the executable.
const installed = "/usr/local/libexec/clntrace"

// readUnit reads a unit file: section and key, and the values in their order.
func readUnit(t *testing.T, path string) map[string][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	options, err := unit.DeserializeOptions(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	values := map[string][]string{}
	for _, o := range options {
		key := o.Section + "." + o.Name
		values[key] = append(values[key], o.Value)
	}
	return values
}

// specifiers are those that the recipes use, as a system's manager expands them.
var specifiers = strings.NewReplacer("%t", "/run", "%S", "/var/lib")

// unitSocket is the value of CLN_TRACE_SOCKET in the environment of a unit.
func unitSocket(t *testing.T, u map[string][]string) string {
	t.Helper()
	for _, variable := range u["Service.Environment"] {
		if path, ok := strings.CutPrefix(variable, "CLN_TRACE_SOCKET="); ok {
			return specifiers.Replace(path)
		}
	}
	t.Fatalf("no CLN_TRACE_SOCKET in %v", u)
	return ""
}

// install lays out a recipe as under /etc/systemd/system, with the executable
// where it is.
func install(t *testing.T, recipe string) (dir string) {
	t.Helper()
	dir = lightningdtest.Dir(t)
	if err := os.CopyFS(dir, os.DirFS(recipe)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lightningd.service"), []byte(lightningdUnit), 0o644); err != nil {
		t.Fatal(err)
	}
	service := filepath.Join(dir, "clntrace-collect.service")
	text, err := os.ReadFile(service)
	if errors.Is(err, os.ErrNotExist) {
		return dir
	}
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(installed), []byte(clntrace))
	if err := os.WriteFile(service, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// systemdAnalyze runs systemd-analyze on units that only dir and the system
// hold, and returns what it says.
func systemdAnalyze(t *testing.T, dir string, args ...string) (output string, err error) {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":", "SYSTEMD_LOG_LEVEL=notice")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestUnitsAreValid(t *testing.T) {
	for _, recipe := range []string{"plugin", "sidecar"} {
		t.Run(recipe, func(t *testing.T) {
			dir := install(t, filepath.Join("systemd", recipe))
			units, err := filepath.Glob(filepath.Join(dir, "*.service"))
			if err != nil {
				t.Fatal(err)
			}
			// It warns of an unknown key and still says that all is well. Of
			// the machine's other units it may say what it likes.
			output, err := systemdAnalyze(t, dir, append([]string{"verify", "--man=no"}, units...)...)
			if err != nil || strings.Contains(output, "lightningd") || strings.Contains(output, "clntrace") {
				t.Errorf("%v: %s", err, output)
			}
			broken := filepath.Join(dir, "lightningd.service.d", "clntrace.conf")
			text, err := os.ReadFile(broken)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(broken, bytes.Replace(text, []byte("Environment="), []byte("Surroundings="), 1), 0o644); err != nil {
				t.Fatal(err)
			}
			if output, _ := systemdAnalyze(t, dir, append([]string{"verify", "--man=no"}, units...)...); !strings.Contains(output, "Surroundings") {
				t.Errorf("the drop-in is not looked at: %s", output)
			}
		})
	}
}

// Exposure as systemd reckons it, from 0 to 100; of most services it is above 90.
func TestUnitIsConfined(t *testing.T) {
	dir := install(t, "systemd/sidecar")
	if output, err := systemdAnalyze(t, dir, "security", "--offline=true", "--threshold=20", "--no-pager",
		filepath.Join(dir, "clntrace-collect.service")); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

func TestUnitOfThePlugin(t *testing.T) {
	u := readUnit(t, "systemd/plugin/lightningd.service.d/clntrace.conf")
	socket := unitSocket(t, u)
	if dir := u["Service.RuntimeDirectory"]; len(dir) != 1 || filepath.Dir(socket) != filepath.Join("/run", dir[0]) {
		t.Errorf("the socket is %s, the unit makes %v", socket, dir)
	}
	runPlugin(t, socket, map[string]string{})
}

func TestUnitOfTheSidecar(t *testing.T) {
	u := readUnit(t, "systemd/sidecar/clntrace-collect.service")
	argv := strings.Fields(specifiers.Replace(u["Service.ExecStart"][0]))
	socket := unitSocket(t, readUnit(t, "systemd/sidecar/lightningd.service.d/clntrace.conf"))
	if got := flagOf(argv, "--socket"); got != socket {
		t.Errorf("clntrace listens at %s, lightningd sends to %s", got, socket)
	}
	for key, path := range map[string]string{"RuntimeDirectory": filepath.Dir(socket), "StateDirectory": flagOf(argv, "--spool-dir")} {
		if dir := u["Service."+key]; len(dir) != 1 || filepath.Base(path) != dir[0] {
			t.Errorf("%s=%v, and the recipe uses %s", key, dir, path)
		}
	}
	checkCollects(t, argv, bytesOf(t, u["Service.MemoryMax"][0]))
}

func TestSysctl(t *testing.T) {
	needNamespaces(t)
	file, err := filepath.Abs("systemd/sysctl.d/60-clntrace.conf")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-c",
		`sysctl -q -p "$1" && cat /proc/sys/net/unix/max_dgram_qlen`, "sh", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.TrimSpace(string(out)); got != "512" {
		t.Errorf("the limit is %s, want 512", got)
	}
}
