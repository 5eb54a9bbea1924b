//go:build linux

package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// loadStatefulSet reads a manifest; what Kubernetes does not know is an error.
func loadStatefulSet(t *testing.T, path string) *appsv1.StatefulSet {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var set appsv1.StatefulSet
	if err := yaml.UnmarshalStrict(text, &set); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if set.APIVersion != "apps/v1" || set.Kind != "StatefulSet" {
		t.Fatalf("%s: %s %s", path, set.APIVersion, set.Kind)
	}
	return &set
}

// checkPod expects what the API server would check and the types do not say.
func checkPod(t *testing.T, set *appsv1.StatefulSet) {
	t.Helper()
	if got, want := set.Spec.Template.Labels, set.Spec.Selector.MatchLabels; got["app"] != want["app"] {
		t.Errorf("the pods are labelled %v, the set selects %v", got, want)
	}
	pod := set.Spec.Template.Spec
	var volumes []string
	for _, v := range pod.Volumes {
		volumes = append(volumes, v.Name)
	}
	for _, v := range set.Spec.VolumeClaimTemplates {
		volumes = append(volumes, v.Name)
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, m := range c.VolumeMounts {
			if !slices.Contains(volumes, m.Name) {
				t.Errorf("container %s mounts %q, which there is not", c.Name, m.Name)
			}
		}
	}
	checkPodSecurity(t, set)
}

// checkPodSecurity checks the pod against the Pod Security Standards with the
// code that a cluster uses: but for the sysctl it satisfies the strictest one.
func checkPodSecurity(t *testing.T, set *appsv1.StatefulSet) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	template := set.Spec.Template.DeepCopy()
	violations := func(level api.Level) []string {
		return policy.AggregateCheckResults(evaluator.EvaluatePod(
			api.LevelVersion{Level: level, Version: api.LatestVersion()}, &template.ObjectMeta, &template.Spec)).ForbiddenReasons
	}
	for _, level := range []api.Level{api.LevelBaseline, api.LevelRestricted} {
		if got := violations(level); !slices.Equal(got, []string{"forbidden sysctls"}) {
			t.Errorf("against %q: %q", level, got)
		}
	}
	template.Spec.SecurityContext.Sysctls = nil
	if got := violations(api.LevelRestricted); len(got) > 0 {
		t.Errorf("against %q, without the sysctl: %q", api.LevelRestricted, got)
	}
}

// containerOf is the container of that name, and its environment as far as it
// is known before the pod runs.
func containerOf(t *testing.T, containers []corev1.Container, name string) (c corev1.Container, env map[string]string) {
	t.Helper()
	i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no container %s", name)
	}
	env = map[string]string{}
	for _, v := range containers[i].Env {
		env[v.Name] = v.Value
		if v.ValueFrom != nil {
			env[v.Name] = "from " + v.ValueFrom.FieldRef.FieldPath
		}
	}
	return containers[i], env
}

// expand expands $(NAME) in arguments, as a kubelet does.
func expand(args []string, env map[string]string) []string {
	expanded := slices.Clone(args)
	for name, value := range env {
		for i := range expanded {
			expanded[i] = strings.ReplaceAll(expanded[i], "$("+name+")", value)
		}
	}
	return expanded
}

func TestKubernetesPlugin(t *testing.T) {
	set := loadStatefulSet(t, "kubernetes/node-plugin.yaml")
	checkPod(t, set)
	pod := set.Spec.Template.Spec
	node, env := containerOf(t, pod.Containers, "lightningd")

	// The init container copies to where lightningd finds the plugin.
	copied, _ := containerOf(t, pod.InitContainers, "clntrace")
	command := entrypoint(loadStages(t)["copy"])
	from, to := command[len(command)-2], command[len(command)-1]
	if got, want := flagOf(node.Args, "--plugin"), filepath.Join(to, filepath.Base(from)); got != want {
		t.Errorf("lightningd looks for %s, copied was %s", got, want)
	}
	shared := func(c corev1.Container) (volume string) {
		for _, m := range c.VolumeMounts {
			if m.MountPath == filepath.Clean(to) {
				volume = m.Name
			}
		}
		return volume
	}
	if shared(node) == "" || shared(node) != shared(copied) {
		t.Errorf("lightningd has %q at %s, the init container %q", shared(node), to, shared(copied))
	}

	spans := runPlugin(t, env["CLN_TRACE_SOCKET"], pluginOptions(t, expand(node.Args, env)))
	if got := spans[0].Resource["k8s.pod.name"]; got != "from metadata.name" {
		t.Errorf("k8s.pod.name is %v", got)
	}
}

func TestKubernetesSidecar(t *testing.T) {
	set := loadStatefulSet(t, "kubernetes/node-sidecar.yaml")
	checkPod(t, set)
	pod := set.Spec.Template.Spec
	_, env := containerOf(t, pod.Containers, "lightningd")
	sidecar, own := containerOf(t, pod.InitContainers, "clntrace")
	if r := sidecar.RestartPolicy; r == nil || *r != corev1.ContainerRestartPolicyAlways {
		t.Error("it is no sidecar: lightningd would wait for its end")
	}
	if s := pod.ShareProcessNamespace; s == nil || !*s {
		t.Error("no pid namespace is shared")
	}
	if got := flagOf(sidecar.Args, "--socket"); got != env["CLN_TRACE_SOCKET"] {
		t.Errorf("clntrace listens at %s, lightningd sends to %s", got, env["CLN_TRACE_SOCKET"])
	}
	mounted := func(path string) bool {
		return slices.ContainsFunc(sidecar.VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(path, m.MountPath+"/") })
	}
	argv := slices.Concat(entrypoint(loadStages(t)["sidecar"]), expand(sidecar.Args, own))
	for _, flag := range []string{"--socket", "--spool-dir"} {
		if path := flagOf(argv, flag); path != "" && !mounted(path) {
			t.Errorf("%s=%s is in no volume", flag, path)
		}
	}
	checkCollects(t, argv, sidecar.Resources.Limits.Memory().Value())
}
