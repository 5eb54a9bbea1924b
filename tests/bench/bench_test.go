//go:build linux

package main

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cells are the fields of the main table's rows.
func cells(t *testing.T, output string) (rows [][]string) {
	t.Helper()
	for line := range strings.Lines(output) {
		fields := strings.Split(strings.TrimSpace(line), " | ")
		if last := len(fields) - 1; last == 12 {
			fields[0], fields[last] = strings.TrimPrefix(fields[0], "| "), strings.TrimSuffix(fields[last], " |")
			rows = append(rows, fields)
		}
	}
	if len(rows) < 2 {
		t.Fatalf("no table in\n%s", output)
	}
	return rows[2:] // heading and alignment
}

// TestQuick keeps the comparison from going stale: it runs all of it but the
// Collector, whose build takes a while, and a real node.
func TestQuick(t *testing.T) {
	var output bytes.Buffer
	if err := run(t.Context(), []string{"-quick"}, &output, t.Output()); err != nil {
		t.Fatal(err)
	}
	t.Log(output.String())
	if strings.Contains(output.String(), "DEFECT") {
		t.Error("the counts do not add up")
	}
	want := 9
	if strings.Contains(output.String(), "No python3") {
		want = 6
	}
	rows := cells(t, output.String())
	if len(rows) != want {
		t.Errorf("%d rows, want %d", len(rows), want)
	}
	for _, row := range rows {
		checkRow(t, row)
	}
}

func checkRow(t *testing.T, row []string) {
	t.Helper()
	const kernel, later, taken = 4, 5, 6 // columns
	for i, cell := range row {
		if cell == "" || strings.Contains(cell, "NaN") || strings.Contains(cell, "Inf") || cell == "–" && i != taken {
			t.Errorf("no value in column %d of %q", i, row)
		}
	}
	if i := slices.IndexFunc(row[7:10], func(cell string) bool { v, err := strconv.ParseFloat(cell, 64); return err != nil || v <= 0 }); i >= 0 {
		t.Errorf("CPU or memory is nothing in %q", row)
	}
	limit, err := strconv.Atoi(row[1])
	if err != nil {
		t.Error(err)
	}
	// A receiver that keeps up with a node loses nothing where the queue holds a burst.
	if row[0] == "recorded pace" && limit >= 32 && (row[kernel] != "0" || row[later] != "0") {
		t.Errorf("lost %s and %s in %q", row[kernel], row[later], row)
	}
}

func TestReadTable(t *testing.T) {
	r, err := readTable(`clntrace 0.1.0: ok, up 12s
  !      The kernel's queue holds 11 datagrams and was full 14 times: spans were
         lost before clntrace could see them.
socket   listening on /tmp/s; 300 datagrams, 1.2 MB, 2 malformed; the kernel's
         queue holds 11 and was full 14 times
spans    298 accepted, 12.5 a second; 3 synthesized; 290 exported, 11 dropped
         (queue full)
`)
	if err != nil {
		t.Fatal(err)
	}
	if r.received != 300 || r.losses["malformed"] != 2 || r.losses["dropped (queue full)"] != 11 {
		t.Errorf("read %+v", r)
	}
	if _, err := readTable("nothing of the kind"); err == nil {
		t.Error("read a table where there is none")
	}
}

func TestPacedKeepsTheGaps(t *testing.T) {
	b := bench{config: config{workloads: []string{paceLoad, fasterLoad}, repeat: 2}}
	if err := b.plan(); err != nil {
		t.Fatal(err)
	}
	slow, fast := b.loads[0], b.loads[1]
	if len(slow.plans) != 4 { // the processes that take part in a payment
		t.Fatalf("%d senders", len(slow.plans))
	}
	total := 0
	for i, p := range slow.plans {
		total += p.Count
		if p.Count != 2*len(p.Payloads) || !slices.IsSorted(p.Offsets) || p.Period <= p.Offsets[len(p.Offsets)-1] {
			t.Errorf("sender %d: %d datagrams of %d, period %v, last at %v", i, p.Count, len(p.Payloads), p.Period, p.Offsets[len(p.Offsets)-1])
		}
	}
	if total != 2*156 {
		t.Errorf("%d datagrams", total)
	}
	for i, p := range fast.plans {
		if same := slow.plans[i]; p.Count != 10*same.Count || same.Period/p.Period < 9 || same.Period/p.Period > 10 {
			t.Errorf("sender %d: at ten times the pace %d datagrams with a period of %v, else %d with %v", i, p.Count, p.Period, same.Count, same.Period)
		}
	}
	if apart := (slow.lasts - fast.lasts).Abs(); apart > time.Microsecond || slow.lasts < 100*time.Millisecond {
		t.Errorf("lasts %v and %v", slow.lasts, fast.lasts)
	}
}
