package plugin

import "io"

// wipingReader reads single bytes, and keeps none that it has given away:
// notifications hold the preimages of payments.
type wipingReader struct {
	from   io.Reader
	buffer []byte
	at, n  int // of the buffer, what is between them has not been read
}

func newWipingReader(from io.Reader) *wipingReader {
	return &wipingReader{from: from, buffer: make([]byte, 64<<10)}
}

// ReadByte returns the next byte, or the error of the reader behind.
func (r *wipingReader) ReadByte() (byte, error) {
	for r.at == r.n {
		n, err := r.from.Read(r.buffer)
		if n == 0 && err != nil {
			return 0, err
		}
		r.at, r.n = 0, n // an error comes again with the next call
	}
	b := r.buffer[r.at]
	r.buffer[r.at] = 0
	r.at++
	return b, nil
}

// putBack makes b, which has just been read, the next byte.
func (r *wipingReader) putBack(b byte) {
	r.at--
	r.buffer[r.at] = b
}
