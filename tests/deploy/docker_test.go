//go:build linux

package deploy

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"clntrace/tests/lightningdtest"
)

// top is the top of the checkout: the context of a build.
const top = "../.."

// loadStages parses the Dockerfile as BuildKit does.
func loadStages(t *testing.T) map[string]instructions.Stage {
	t.Helper()
	text, err := os.ReadFile("docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range tree.Warnings {
		t.Errorf("docker/Dockerfile: %+v", warning)
	}
	list, _, err := instructions.Parse(tree.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	stages := map[string]instructions.Stage{}
	for _, stage := range list {
		stages[stage.Name] = stage
	}
	return stages
}

// entrypoint is the ENTRYPOINT of a stage.
func entrypoint(stage instructions.Stage) []string {
	for _, command := range stage.Commands {
		if c, ok := command.(*instructions.EntrypointCommand); ok {
			return c.CmdLine
		}
	}
	return nil
}

// loadCompose loads Compose files as Docker Compose does.
func loadCompose(t *testing.T, files ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions(files, cli.WithConsistency(true), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestDockerfile(t *testing.T) {
	stages := loadStages(t)
	for name, stage := range stages {
		user := ""
		for _, command := range stage.Commands {
			switch c := command.(type) {
			case *instructions.UserCommand:
				user = c.User
			case *instructions.CopyCommand:
				if _, known := stages[c.From]; c.From != "" && !known {
					t.Errorf("stage %s copies from %q, which there is not", name, c.From)
				}
			}
		}
		if want := "1000:1000"; name != "build" && user != want {
			t.Errorf("stage %s runs as %q, want %q", name, user, want)
		}
	}
}

// What the Dockerfile copies is enough to build what it builds, and that needs
// no library.
func TestDockerfileBuilds(t *testing.T) {
	t.Parallel()
	context, out := lightningdtest.Dir(t), lightningdtest.Dir(t)
	built := false
	for _, command := range loadStages(t)["build"].Commands {
		switch c := command.(type) {
		case *instructions.CopyCommand:
			copyInto(t, context, c.SourcePaths, c.DestPath)
		case *instructions.RunCommand:
			line := strings.ReplaceAll(strings.Join(c.CmdLine, " "), "/out/", out+"/")
			run := exec.CommandContext(t.Context(), "sh", "-c", line)
			run.Dir = context
			if output, err := run.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, output)
			}
			built = built || strings.Contains(line, "go build")
		}
	}
	if !built {
		t.Fatal("it builds nothing")
	}
	program, err := elf.Open(filepath.Join(out, "clntrace"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Error("the executable needs a dynamic linker, which an empty image does not have")
	}
}

// copyInto does what COPY does with what is in the checkout.
func copyInto(t *testing.T, context string, sources []string, destination string) {
	t.Helper()
	for _, source := range sources {
		from, to := filepath.Join(top, source), filepath.Join(context, destination)
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			if err := os.CopyFS(to, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, source), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestComposeOfThePlugin(t *testing.T) {
	p := loadCompose(t, "docker/compose.yaml")
	node := p.Services["lightningd"]
	socket := composeSocket(t, p)
	checkComposeFiles(t, p)
	checkQueue(t, node)
	if !copies(loadStages(t)[node.Build.Target], flagOf(node.Command, "--plugin")) {
		t.Errorf("the image's stage %s has no %s", node.Build.Target, flagOf(node.Command, "--plugin"))
	}
	runPlugin(t, socket, pluginOptions(t, node.Command))
}

func TestComposeOfTheSidecar(t *testing.T) {
	p := loadCompose(t, "docker/compose.yaml", "docker/compose.sidecar.yaml")
	node, sidecar := p.Services["lightningd"], p.Services["clntrace"]
	checkComposeFiles(t, p)
	checkQueue(t, sidecar)
	if sidecar.User != node.User || sidecar.Pid != "service:lightningd" {
		t.Errorf("user %q and pid namespace %q, the node is user %q", sidecar.User, sidecar.Pid, node.User)
	}
	if got, want := flagOf(sidecar.Command, "--socket"), composeSocket(t, p); got != want {
		t.Errorf("clntrace listens at %s, lightningd sends to %s", got, want)
	}
	if options := pluginOptions(t, node.Command); len(options) > 0 || flagOf(node.Command, "--plugin") != "" {
		t.Errorf("the node still has the plugin: %v", node.Command)
	}
	if !sidecar.ReadOnly || !slices.Equal(sidecar.CapDrop, []string{"ALL"}) {
		t.Errorf("read-only: %v, drops %v", sidecar.ReadOnly, sidecar.CapDrop)
	}
	stage := loadStages(t)[sidecar.Build.Target]
	checkCollects(t, slices.Concat(entrypoint(stage), sidecar.Command), int64(sidecar.MemLimit))
}

// composeSocket is where lightningd sends, which must be in a volume of its own.
func composeSocket(t *testing.T, p *types.Project) string {
	t.Helper()
	node := p.Services["lightningd"]
	socket := node.Environment["CLN_TRACE_SOCKET"]
	if socket == nil {
		t.Fatal("lightningd has no CLN_TRACE_SOCKET")
	}
	mounted := func(v types.ServiceVolumeConfig) bool { return v.Target == filepath.Dir(*socket) }
	if !slices.ContainsFunc(node.Volumes, mounted) {
		t.Errorf("no volume is mounted where %s is", *socket)
	}
	return *socket
}

// checkComposeFiles expects what a project takes from the checkout.
func checkComposeFiles(t *testing.T, p *types.Project) {
	t.Helper()
	stages := loadStages(t)
	for name, s := range p.Services {
		if b := s.Build; b != nil {
			if _, err := os.Stat(filepath.Join(b.Context, b.Dockerfile)); err != nil {
				t.Error(err)
			}
			if _, ok := stages[b.Target]; !ok {
				t.Errorf("service %s wants stage %q", name, b.Target)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Error(err)
			}
		}
	}
}

// checkQueue expects that the service raises the limit of the kernel's queue.
func checkQueue(t *testing.T, s types.ServiceConfig) {
	t.Helper()
	if got := s.Sysctls["net.unix.max_dgram_qlen"]; got != "512" {
		t.Errorf("the queue of service %s: %q", s.Name, got)
	}
}

// copies reports whether a stage has a file at that path from another stage.
func copies(stage instructions.Stage, path string) bool {
	return slices.ContainsFunc(stage.Commands, func(c instructions.Command) bool {
		command, ok := c.(*instructions.CopyCommand)
		return ok && command.From != "" && command.DestPath == path
	})
}
