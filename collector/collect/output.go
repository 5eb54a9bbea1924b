package collect

import (
	"bytes"
	"io"

	"clntrace/collector/patient"
)

// maxChunks is how many pieces of output wait for who reads them: a table or a
// log line each.
const maxChunks = 256

// output is an output of collect: whoever gathers a container's output can hang, and
// what receives spans must not hang with it.
type output struct{ *patient.Queue[[]byte] }

var _ io.Writer = output{}

func newOutput() output { return output{patient.New[[]byte](maxChunks)} }

// Write takes p, or drops it if there is no room. It never fails.
func (o output) Write(p []byte) (int, error) {
	o.Put(bytes.Clone(p))
	return len(p), nil
}

// copyTo writes what comes to w until Close. It tells failed why it could not, and
// lost how many pieces were dropped.
func (o output) copyTo(w io.Writer, failed func(error), lost func(n uint64)) {
	o.Run(func(p []byte) {
		if _, err := w.Write(p); err != nil {
			failed(err)
		}
	}, lost)
}
