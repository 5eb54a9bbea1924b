// Package defect makes errors of panics. A plugin that lightningd calls
// important takes the node down when it ends, so no defect of clntrace may end
// it: what a panic spoils is counted, told, and left behind.
package defect

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// Notice begins the text of every defect.
const Notice = "a defect of clntrace, please report it"

// Of is the error of what recover has returned, with the place of the panic;
// nil for nil. It is for the deferred function that recovers:
//
//	defer func() { err = cmp.Or(defect.Of(recover()), err) }()
func Of(recovered any) error {
	if recovered == nil {
		return nil
	}
	return fmt.Errorf(Notice+": %v (%s)", recovered, place())
}

// place is where the panic that is being recovered began.
func place() string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs[:])])
	for panicking := false; ; {
		frame, more := frames.Next()
		switch {
		case frame.Function == "runtime.gopanic":
			panicking = true
		case panicking && !strings.HasPrefix(frame.Function, "runtime."):
			return fmt.Sprintf("%s:%d", filepath.Base(frame.File), frame.Line)
		}
		if !more {
			return "at an unknown place"
		}
	}
}
