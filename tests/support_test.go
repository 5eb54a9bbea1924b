package tests

import "time"

// object is a JSON object.
type object = map[string]any

// now is the present in lightningd's resolution.
func now() time.Time { return time.Now().Truncate(time.Microsecond) }
