// Package defect turns panics into errors. The node goes down with an important
// plugin, so no defect of clntrace may end the process: the span or batch that a
// panic spoils is counted and reported, and the work goes on.
package defect

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// Notice begins the text of every defect.
const Notice = "a defect of clntrace, please report it"

// Catch ends a panic and passes it to report, unless that is nil, as an error with
// the place where it began. It is itself what must be deferred:
//
//	defer defect.Catch(func(found error) { err = found })
func Catch(report func(found error)) {
	recovered := recover()
	if recovered == nil || report == nil {
		return
	}
	report(fmt.Errorf(Notice+": %v (%s)", recovered, place()))
}

// place is the file and line of the panic that is being recovered.
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
