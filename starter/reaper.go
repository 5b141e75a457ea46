package main

import (
	"syscall"
	"unsafe"
)

const (
	anyChild  = 0 // P_ALL
	oneChild  = 1 // P_PID
	everyKind = syscall.WALL
)

// signalInfo is the kernel's siginfo_t of a child, on machines of 64 bits.
type signalInfo struct {
	_   [4]int32
	pid int32
	_   [27]int32
}

// reap waits for the end of whatever is below us, for as long as this program lives.
func (c *children) reap() {
	seen := uint64(0) // forks, of which all have ended
	for {
		pid, err := dead(anyChild, 0, 0)
		c.lock.Lock()
		switch {
		case err == nil:
			c.ended(pid)
		case seen != c.forks:
			seen = c.forks // one may have come after we had looked, so look again
		default:
			c.none = true
			c.changed.Broadcast()
			for seen == c.forks {
				c.changed.Wait()
			}
		}
		c.lock.Unlock()
	}
}

// ended sees to one that is dead. Its group is killed while it still holds the number.
func (c *children) ended(pid int) {
	if found, err := dead(oneChild, pid, syscall.WNOHANG); err != nil || found != pid {
		return // one that could not be executed, which fork has reaped
	}
	known, ordered := c.byPid[pid]
	if ordered {
		killGroup(pid)
	}
	var status syscall.WaitStatus
	var usage syscall.Rusage
	if _, err := syscall.Wait4(pid, &status, everyKind, &usage); err != nil {
		return
	}
	if !ordered {
		c.endStrays(0)
		return
	}
	delete(c.byPid, pid)
	answer := exited{ID: known.number, Status: uint32(status), PeakMemory: usage.Maxrss << 10}
	if known.why >= 0 {
		if err := explained(told(known.why), known.name, known.path, "/"); err != nil {
			answer.Error = text(err.Error())
		}
	}
	answer.Strays = c.endStrays(known.number)
	c.giveTo.take(known.directory)
	c.say(answer)
}

// dead waits for a child that is, and leaves it there; 0 if it need not wait and there is none.
func dead(kind, pid, options int) (int, error) {
	var info signalInfo
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, uintptr(kind), uintptr(pid), uintptr(unsafe.Pointer(&info)),
			uintptr(syscall.WEXITED|syscall.WNOWAIT|everyKind|options), 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(info.pid), nil
	}
}

func killGroup(pid int) {
	if syscall.Kill(-pid, syscall.SIGKILL) != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
