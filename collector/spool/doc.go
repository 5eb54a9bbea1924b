// Package spool keeps batches of spans on disk while nobody takes them: a
// bounded queue, oldest first, that survives the end of the process at any
// instant.
//
// It gets export requests as bytes, by Put, and gives them back one at a time,
// by Next. It keeps Config.Limit bytes on disk, the oldest going first, and
// tells about every span that it stored, found or dropped (Change). A damaged
// file is set aside, maxDamaged of them.
//
// The rooms end here: see recording and demo for how all of it is tried, and
// package plugin for who runs it.
//
// # On disk
//
// Each file holds what will be one export request, and is named after its
// place in the queue. It is a row of records; a record is a header (length,
// number of spans, checksums) and a serialized ExportTraceServiceRequest.
// Protocol buffers merge when they are put one behind the other, so the bodies
// of a file are one request. Small batches are appended to the newest file
// until it is as large as a request may be; a file that has been delivered is
// removed, and that is all the bookkeeping there is.
//
//   - A kill in the middle of a write leaves a record that is cut. The records
//     before it are whole, and are sent.
//   - A kill between the endpoint's answer and the removal repeats one request.
//   - What is damaged is set aside under another name and logged; the whole
//     records of the same file, and all other files, are sent.
//   - A file that has another name than ours is left alone.
//
// The page cache survives a kill, so a write need not reach the disk before it
// counts; for the sake of power cuts files are synced in the background, once
// a second at most, for the node's own database waits for the same disk.
//
// # Why not a library
//
// go.etcd.io/bbolt keeps all in one file, which never shrinks; a damaged page
// makes all of it unusable, or panics, at any later time; its pages count as
// our resident memory; and each Put would be a transaction with two fsyncs.
// github.com/tidwall/wal has no checksums, takes no lock, gives up a whole log
// over one bad byte, and rewrites and syncs the rest of a segment for each
// entry that is removed. What is needed here is less than either offers, and
// the file system has most of it.
package spool
