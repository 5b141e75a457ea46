// Package nofile remembers how many files this process might open before Go raised that limit for itself.
//
// Go's own packages raise the soft limit when they are initialised. Newer versions give it back to every child; Debian
// bookworm's 1.19.8 does not, and its package os is where it happens. This package needs no more than syscall, and it is
// the first import of the first file of package main, so it is initialised before os and sees what the container was
// given. tests/runtimes/test_starter.py fails where that does not hold.
package nofile

import "syscall"

var before, known = read()

// GiveBack makes the limit what it was, for this process and all that it starts.
func GiveBack() {
	if now, ok := read(); known && ok && now != before {
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
	}
}

func read() (syscall.Rlimit, bool) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return limit, err == nil
}
