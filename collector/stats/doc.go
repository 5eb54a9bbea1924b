// Package stats counts: every datagram and span in exactly one place (Ledger),
// and how long each operation of each process takes (Operations). It defines
// the Report that tracestats answers with, and writes it as a table.
//
// It gets Counts, which are changes, and Observations, and gives the Report. The
// table has MaxOperations rows, and what is beyond counts in one more, (other);
// of processes the maxProcesses seen last are kept. The percentiles of an
// operation take some 7 KiB at most.
//
// The next room is metrics.
package stats
