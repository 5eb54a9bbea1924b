package recorder

import (
	"fmt"
	"testing"
	"time"
)

// A lower limit holds at once, and not only when something is added.
func TestLimitIsLowered(t *testing.T) {
	f := newFeed(1 << 20)
	for i := range 20_000 {
		f.root(fmt.Sprint("kind ", i%256), time.Duration(i))
	}
	before := f.Status()
	limit := before.Bytes / 2
	f.SetLimit(limit, f.now)
	after := f.Status()
	if after.Bytes > limit || after.Traces == 0 || after.Traces >= before.Traces || after.LimitBytes != limit {
		t.Errorf("%+v with a limit of %d, before it %+v", after, limit, before)
	}
}
