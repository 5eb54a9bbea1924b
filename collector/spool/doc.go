// Package spool keeps batches of spans on disk while the endpoint does not take
// them: a bounded queue, oldest first, that survives the end of the process at any
// instant.
//
// The package takes export requests as bytes, by Put, and gives them back one at a
// time, by Next. It keeps at most Config.Limit bytes on disk, dropping the oldest
// batches first, and reports every span that it stores, finds or drops (Change).
// It sets damaged files aside, and keeps at most maxDamaged of them.
//
// This is the last room. See recording and demo for a way to try all of them, and
// package plugin for who runs them.
//
// # On disk
//
// Each file contains what will be one export request, and is named after its place
// in the queue. It is a sequence of records: a header (length, number of spans,
// checksums) and a serialized ExportTraceServiceRequest. Serialized protocol
// buffers merge when they are concatenated, so the bodies of a file are one
// request. Small batches are appended to the newest file until it is as large as a
// request may be. A file that has been delivered is removed. There is no other
// bookkeeping.
//
//   - A kill in the middle of a write leaves a record that is cut. The records
//     before it are whole, and are sent.
//   - A kill between the endpoint's answer and the removal repeats one request.
//   - What is damaged, or of another version of the format, is set aside under another
//     name, logged, and counted as far as headers tell. The whole records of the same
//     file, and all other files, are sent.
//   - Files with names of another form are left alone.
//
// The page cache survives a kill, so a write counts before it has reached the
// disk. To limit what a power cut can cost, files are synced in the background, at
// most once a second because the node's own database uses the same disk.
//
// # Why not a library
//
// go.etcd.io/bbolt keeps everything in one file, which never shrinks; a damaged
// page makes all of it unusable, or panics, at any later time; its pages count as
// our resident memory; and each Put would be a transaction with two fsyncs.
// github.com/tidwall/wal has no checksums, takes no lock, gives up a whole log
// over one bad byte, and rewrites and syncs the rest of a segment for each entry
// that is removed. What is needed here is less than either offers, and the file
// system provides most of it.
package spool
