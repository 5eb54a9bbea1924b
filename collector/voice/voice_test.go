package voice

import "testing"

func TestOptionsAreNamedAsTheUserWritesThem(t *testing.T) {
	for _, tc := range []struct {
		name  string
		voice Voice
		want  string
		ca    bool // otlp-ca-file can be set
	}{
		{"plugin", Plugin, "clntrace-otlp-endpoint", true},
		{"collect", Collect, "--otlp-endpoint", true},
		{"demo", Demo, "--otlp-endpoint", false},
	} {
		if got := tc.voice.Option("otlp-endpoint"); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
		if !tc.voice.Has("otlp-endpoint") {
			t.Errorf("%s has no otlp-endpoint", tc.name)
		}
		if got := tc.voice.Has("otlp-ca-file"); got != tc.ca {
			t.Errorf("%s: otlp-ca-file: got %v, want %v", tc.name, got, tc.ca)
		}
	}
}

func TestSay(t *testing.T) {
	for _, tc := range []struct {
		text                  string
		plugin, collect, demo string
	}{
		{"as it is: [::1]:4317", "as it is: [::1]:4317", "as it is: [::1]:4317", "as it is: [::1]:4317"},
		{"correct {otlp-endpoint}", "correct clntrace-otlp-endpoint", "correct --otlp-endpoint", "correct --otlp-endpoint"},
		{"[set {otlp-protocol}, or name|name] the port", "set clntrace-otlp-protocol, or name the port", "set --otlp-protocol, or name the port", "name the port"},
		{"late[, beyond {otlp-timeout}|]. See {statistics}", "late, beyond clntrace-otlp-timeout. See tracestats", "late, beyond --otlp-timeout. See SIGUSR1", "late. See the table below"},
	} {
		for _, speaker := range []struct {
			voice Voice
			want  string
		}{{Plugin, tc.plugin}, {Collect, tc.collect}, {Demo, tc.demo}} {
			if got := speaker.voice.Say(tc.text); got != speaker.want {
				t.Errorf("got %q, want %q", got, speaker.want)
			}
		}
	}
}

func TestCorrect(t *testing.T) {
	const now = "Correct it in lightningd's configuration, and until the next restart with 'lightning-cli -k setconfig config=clntrace-drop-spans val=VALUE transient=true'"
	for _, tc := range []struct{ got, want string }{
		{Plugin.Correct("drop-spans", true), now},
		{Plugin.Correct("queue-size", false), "Correct it in lightningd's configuration and restart the node"},
		{Collect.Correct("drop-spans", true), "Correct it on the command line and start collect anew"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}
