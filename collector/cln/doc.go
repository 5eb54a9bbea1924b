// Package cln knows what lightningd's spans mean: their names and tags (names.go),
// the paths that are the ids of requests (path.go), and what a span is about below
// its name, the RPC method of a request or verb and table of a database statement
// (detail.go, sql.go).
//
// It takes the name and the tags of a span and gives short texts, by which statistics,
// metrics and traces tell operations apart. It caches the summaries of at most
// maxSummaries statements; a summary has at most maxSummary bytes.
package cln
