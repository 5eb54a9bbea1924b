package payments

import (
	"fmt"
	"strings"
)

// Mode says what is made of payments and forwards.
type Mode int32

// The modes, each of which does what those before it do.
const (
	Off      Mode = iota // only the roots of requests are kept open for as long as their payments
	Local                // shown on the node
	Outcomes             // exported without hashes, amounts, channels and nodes
	All                  // exported with them
)

var modeNames = []string{"off", "local", "outcomes", "all"}

// ParseMode reads the value of an option. The error says what is allowed.
func ParseMode(text string) (Mode, error) {
	for m, name := range modeNames {
		if text == name {
			return Mode(m), nil
		}
	}
	return Off, fmt.Errorf("must be one of %s", strings.Join(modeNames, ", "))
}

// String returns the value of the option.
func (m Mode) String() string {
	if m < Off || m > All {
		return fmt.Sprintf("Mode(%d)", int32(m))
	}
	return modeNames[m]
}
