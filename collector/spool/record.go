package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// A record's header, in little endian and the same in every version of the format, so
// that each can count what another one has written:
//
//	0  magic
//	3  version of the body's format
//	4  spans in the body
//	8  bytes of the body
//	12 CRC-32C of the body
//	16 CRC-32C of the header up to here
//
// The header has a checksum of its own, so that the length can be trusted and a
// damaged body costs only one record, not all that follow.
const headerSize = 20

var magic = []byte("cln")

const version = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a batch in a file.
type record struct {
	spans int64
	body  []byte
	whole []byte // header and body
}

func appendRecord(b []byte, spans int64, body []byte) []byte {
	at := len(b)
	b = append(append(b, magic...), version)
	b = binary.LittleEndian.AppendUint32(b, uint32(spans))     //nolint:gosec // checked by put
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body))) //nolint:gosec // checked by put
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
	return append(b, body...)
}

// contents is what is in a file.
type contents struct {
	records []record // that are whole
	damaged int      // bytes that belong to none of these
	// lost is how many spans are in records that have a header and no body of use. One
	// that is cut is not among them: its spans were never said to be stored.
	lost    int64
	foreign bool // some of these are of another version
}

// scan finds the records in the data of a file; they refer to data. Whatever the data,
// scan takes linear time.
func scan(data []byte) (c contents) {
	for len(data) > 0 {
		h, ok := parseHeader(data)
		if !ok {
			skip := nextMagic(data)
			c.damaged += skip
			data = data[skip:]
			continue
		}
		if h.length > len(data)-headerSize {
			c.damaged += len(data) // cut
			return c
		}
		end := headerSize + h.length
		switch body := data[headerSize:end]; {
		case h.version == version && crc32.Checksum(body, castagnoli) == h.sum:
			c.records = append(c.records, record{spans: h.spans, body: body, whole: data[:end]})
		default:
			c.damaged += end
			c.lost += h.spans
			c.foreign = c.foreign || h.version != version
		}
		data = data[end:]
	}
	return c
}

type header struct {
	version byte
	spans   int64
	length  int // of the body, bytes
	sum     uint32
}

func parseHeader(b []byte) (h header, ok bool) {
	if len(b) < headerSize || !bytes.HasPrefix(b, magic) ||
		crc32.Checksum(b[:16], castagnoli) != binary.LittleEndian.Uint32(b[16:]) {
		return header{}, false
	}
	return header{
		version: b[len(magic)], spans: int64(binary.LittleEndian.Uint32(b[4:])),
		length: int(binary.LittleEndian.Uint32(b[8:])), sum: binary.LittleEndian.Uint32(b[12:]),
	}, true
}

// nextMagic is where in b, after its first byte, the next record may begin; len(b)
// if there is no such place.
func nextMagic(b []byte) int {
	if at := bytes.Index(b[1:], magic); at >= 0 {
		return 1 + at
	}
	return len(b)
}
