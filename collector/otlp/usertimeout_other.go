//go:build !linux

package otlp

import "net"

// boundResending does nothing: here only the time limits of attempts find out that a
// connection is dead.
func boundResending(net.Conn) {}
