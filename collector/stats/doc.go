// Package stats counts every datagram and span in exactly one place (Ledger), and
// measures how long the operations of each process take (Operations). It defines
// the Report with which tracestats answers, and writes it as a table.
//
// The package takes Counts, as changes, and Observations, and gives the Report.
// It keeps at most MaxOperations operations, counts all others as one more,
// (other), and keeps the maxProcesses processes seen last. The percentiles of an
// operation take at most some 7 KiB.
package stats
