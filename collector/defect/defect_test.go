package defect

import (
	"strings"
	"testing"
)

func TestCatch(t *testing.T) {
	run := func(f func()) (err error) {
		defer Catch(func(found error) { err = found })
		f()
		return nil
	}
	if err := run(func() {}); err != nil {
		t.Errorf("without a panic: %v", err)
	}
	func() {
		defer Catch(nil)
		panic("nobody wants to know")
	}()
	var list []int
	for _, f := range []func(){
		func() { panic("boom") },
		func() { _ = list[len(list)] },
		func() { var nobody *strings.Builder; nobody.Len() },
	} {
		err := run(f)
		if err == nil || !strings.HasPrefix(err.Error(), "a defect of clntrace, please report it: ") {
			t.Errorf("got %v", err)
		}
		if !strings.Contains(err.Error(), ".go:") || strings.Contains(err.Error(), "panic.go:") {
			t.Errorf("the place is not named: %v", err)
		}
	}
}
