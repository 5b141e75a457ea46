package main

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// endStrays kills those who left their group and outlived their child, which makes them children of ours; whether any
// may be of the one that `ended`. Whose they are is told by their environment. One that tells nothing may be anybody's,
// so it lives for as long as there is anybody.
func (c *children) endStrays(ended int) bool {
	alive := map[int]bool{}
	found := false
	for i, pid := range c.listing.children() {
		if i == 0 {
			for _, known := range c.byPid {
				alive[known.number] = true
			}
		}
		if _, ordered := c.byPid[pid]; ordered {
			continue
		}
		number, living := markOf(pid)
		if !living {
			continue
		}
		found = found || number == 0 || number == ended
		if !alive[number] && (number != 0 || len(alive) == 0) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return found
}

// markOf is the number of the child that has started this process, or 0 if that can't be told; false if it is dead.
func markOf(pid int) (int, bool) {
	folder := "/proc/" + strconv.Itoa(pid)
	environment, err := os.ReadFile(folder + "/environ")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return 0, false
	}
	if len(environment) == 0 { // of somebody else, or empty, or it is dead
		state, _, err := stat(folder)
		return 0, err == nil && state != "Z" && state != "X"
	}
	for _, entry := range bytes.Split(environment, []byte{0}) {
		name, value, _ := strings.Cut(string(entry), "=")
		if name == mark {
			digits, _, _ := strings.Cut(value, "@")
			number, err := strconv.Atoi(digits)
			if err == nil {
				return number, true
			}
		}
	}
	return 0, true
}

// stat is the state of a process and its parent.
func stat(folder string) (state, parent string, err error) {
	told, err := os.ReadFile(folder + "/stat")
	if err != nil {
		return "", "", err
	}
	fields := strings.Fields(string(told[bytes.LastIndexByte(told, ')')+1:]))
	if len(fields) < 2 {
		return "", "", syscall.ESRCH
	}
	return fields[0], fields[1], nil
}

// listing is the kernel's list of the first thread's children, which orphans are added to. A kernel without it has us
// look at every process.
type listing struct{ file int }

func openListing() *listing {
	own := strconv.Itoa(os.Getpid())
	file, err := syscall.Open("/proc/self/task/"+own+"/children", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		file = -1
	}
	return &listing{file}
}

func (l *listing) children() []int {
	var told [16 << 10]byte
	if l.file < 0 {
		return byParent()
	}
	size, err := syscall.Pread(l.file, told[:], 0)
	if err != nil || size == len(told) {
		return byParent()
	}
	return numbers(strings.Fields(string(told[:size])))
}

func byParent() []int {
	own := strconv.Itoa(os.Getpid())
	folder, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1)
	var found []string
	for _, name := range names {
		if _, parent, err := stat("/proc/" + name); err == nil && parent == own {
			found = append(found, name)
		}
	}
	return numbers(found)
}

func numbers(words []string) []int {
	made := make([]int, 0, len(words))
	for _, word := range words {
		if number, err := strconv.Atoi(word); err == nil {
			made = append(made, number)
		}
	}
	return made
}
