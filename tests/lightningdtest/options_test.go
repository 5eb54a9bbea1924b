package lightningdtest

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInitOptions(t *testing.T) {
	m := Manifest{Options: []Option{
		{Name: "string", Type: "string", Default: json.RawMessage(`"a"`)},
		{Name: "without", Type: "string"},
		{Name: "null", Type: "string", Default: json.RawMessage(`null`)},
		{Name: "conceal", Type: "string-conceal"},
		{Name: "int", Type: "int", Default: json.RawMessage(`7`)},
		{Name: "bool", Type: "bool", Default: json.RawMessage(`true`)},
		{Name: "flag", Type: "flag", Default: json.RawMessage(`false`)},
	}}
	for _, tc := range []struct {
		name string
		set  map[string]string
		want map[string]any // nil: lightningd refuses
	}{
		{"none", nil, map[string]any{"string": "a", "int": int64(7), "bool": true}},
		{"all", map[string]string{"string": "b", "without": "", "null": "n", "conceal": "c", "int": "-0x10", "bool": "No", "flag": ""},
			map[string]any{"string": "b", "without": "", "null": "n", "conceal": "c", "int": int64(-16), "bool": false, "flag": true}},
		{"not a number", map[string]string{"int": "many"}, nil},
		{"not a boolean", map[string]string{"bool": "1"}, nil},
		{"unknown", map[string]string{"sting": "b"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := m.initOptions(tc.set)
			if (err != nil) != (tc.want == nil) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
