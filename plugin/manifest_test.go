package plugin

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"clntrace/collector/options"
	"clntrace/collector/text"
)

func TestManifest(t *testing.T) {
	const golden = "testdata/manifest.json"
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(newManifest()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the manifest changed; if that is meant: go test ./plugin -run Manifest -update\n%s", got.Bytes())
	}
}

func TestManifestDefaults(t *testing.T) {
	for _, o := range options.All() {
		m := announce(o)
		switch {
		case o.HasVariables() && m.Default != nil:
			t.Errorf("%s has variables and a default: lightningd would always send it", o.Name)
		case o.Kind == options.Flag && m.Default != nil:
			t.Errorf("%s: a flag has no default", o.Name)
		case m.Description != text.ASCII(m.Description):
			t.Errorf("%s: the description is not ASCII: %s", o.Name, m.Description)
		}
	}
}
