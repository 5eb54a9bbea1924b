// Package stats counts: every datagram and span in exactly one place (Ledger),
// and how long each operation of each process takes (Operations). It defines
// the Report that tracestats answers with.
package stats
