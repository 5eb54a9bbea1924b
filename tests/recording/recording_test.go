package recording

import "testing"

func TestRecordingsAreWhatTheReadmeSays(t *testing.T) {
	for _, tc := range []struct {
		name                               string
		datagrams, processes               int
		truncated, orphans, missingParents int
	}{
		{Startup, 604, 20, 0, 0, 0},
		{TraceparentStartup, 638, 20, 0, 76, 1},
		{LossyStartup, 445, 17, 0, 11, 2},
		{Xpay, 156, 4, 0, 0, 0},
		{Pay, 200, 3, 0, 0, 0},
		{Weird, 71, 2, 4, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			datagrams, err := Load(tc.name)
			if err != nil {
				t.Fatal(err)
			}
			got := tc
			got.datagrams = len(datagrams)
			got.processes, got.truncated, got.orphans, got.missingParents = census(t, datagrams)
			if got != tc {
				t.Errorf("got %+v, want %+v", got, tc)
			}
		})
	}
}

func census(t *testing.T, datagrams []Datagram) (processes, truncated, orphans, missingParents int) {
	t.Helper()
	pids, ids, missing := map[int]bool{}, map[string]bool{}, map[string]bool{}
	var spans []Span
	for i, d := range datagrams {
		pids[d.PID] = true
		if d.Truncated() {
			truncated++
			continue
		}
		s, err := d.Span()
		if err != nil {
			t.Errorf("datagram %d: %v", i, err)
		}
		if ids[s.ID] {
			t.Errorf("datagram %d: span id %s came before", i, s.ID)
		}
		ids[s.ID] = true
		spans = append(spans, s)
	}
	for _, s := range spans {
		if s.ParentID != "" && !ids[s.ParentID] {
			orphans++
			missing[s.ParentID] = true
		}
	}
	return len(pids), truncated, orphans, len(missing)
}

func TestNewIsReadBack(t *testing.T) {
	datagrams, err := Load(Xpay)
	if err != nil {
		t.Fatal(err)
	}
	rebuilt := 0
	for _, d := range datagrams {
		s, err := d.Span()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Tags) > 1 { // a map does not keep the order of two
			continue
		}
		if got := string(New(s)); got != string(d.Payload) {
			t.Fatalf("got  %s\nwant %s", got, d.Payload)
		}
		rebuilt++
	}
	if rebuilt == 0 {
		t.Error("no datagram of the recording was rebuilt")
	}
}
