package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// A record's header, in little endian:
//
//	0  magic, the last byte being the format's version
//	4  spans in the body
//	8  bytes of the body
//	12 CRC-32C of the body
//	16 CRC-32C of the header up to here
//
// The header has a checksum of its own, so that the length can be trusted and a
// damaged body costs only one record, not all that follow.
const headerSize = 20

var magic = []byte("cln\x01")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a batch in a file.
type record struct {
	spans int64
	body  []byte
	whole []byte // header and body
}

func appendRecord(b []byte, spans int64, body []byte) []byte {
	at := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(spans))     //nolint:gosec // checked by put
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body))) //nolint:gosec // checked by put
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
	return append(b, body...)
}

// scan finds the whole records in the data of a file; they refer to data. damaged is
// the number of bytes that belong to none. Whatever the data, scan takes linear
// time.
func scan(data []byte) (records []record, damaged int) {
	for len(data) > 0 {
		spans, length, sum, ok := parseHeader(data)
		if !ok {
			skip := nextMagic(data)
			damaged += skip
			data = data[skip:]
			continue
		}
		if length > len(data)-headerSize {
			return records, damaged + len(data) // cut
		}
		end := headerSize + length
		if body := data[headerSize:end]; crc32.Checksum(body, castagnoli) == sum {
			records = append(records, record{spans: spans, body: body, whole: data[:end]})
		} else {
			damaged += end
		}
		data = data[end:]
	}
	return records, damaged
}

func parseHeader(b []byte) (spans int64, length int, sum uint32, ok bool) {
	if len(b) < headerSize || !bytes.HasPrefix(b, magic) ||
		crc32.Checksum(b[:16], castagnoli) != binary.LittleEndian.Uint32(b[16:]) {
		return 0, 0, 0, false
	}
	return int64(binary.LittleEndian.Uint32(b[4:])), int(binary.LittleEndian.Uint32(b[8:])), binary.LittleEndian.Uint32(b[12:]), true
}

// nextMagic is where in b, after its first byte, the next record may begin; len(b)
// if there is no such place.
func nextMagic(b []byte) int {
	if at := bytes.Index(b[1:], magic); at >= 0 {
		return 1 + at
	}
	return len(b)
}
