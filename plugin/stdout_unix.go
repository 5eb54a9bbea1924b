//go:build unix && !linux

package plugin

import "golang.org/x/sys/unix"

// redirect makes newfd refer to the file of oldfd.
func redirect(oldfd, newfd int) error { return unix.Dup2(oldfd, newfd) }
