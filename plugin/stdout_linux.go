package plugin

import "golang.org/x/sys/unix"

// redirect makes newfd refer to the file of oldfd. It uses dup3 because arm64 and
// riscv64 have no dup2.
func redirect(oldfd, newfd int) error { return unix.Dup3(oldfd, newfd, 0) }
