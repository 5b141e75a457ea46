package main

import (
	"bdw-fed/starter/nofile"

	"runtime"
)

// init undoes what Go has done to this process, and keeps it on the first thread: all that forks is there, so that its
// children are all in one list of the kernel's. The name of this file has to be the first one, see nofile.
func init() {
	nofile.GiveBack()
	runtime.LockOSThread()
}
