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
