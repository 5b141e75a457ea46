package main

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// becomeVerb is the first argument of this program in its short life between fork and exec.
const becomeVerb = "become"

const (
	ourselves      = "/proc/self/exe"
	tellDescriptor = 3
	listsAt        = 4 // the environment begins, behind the verb
)

// onlyOneThread is the environment of that life: no other thread runs code of ours, see become.
var onlyOneThread = []string{"GOMAXPROCS=1"}

// limited is how a program is executed that has limits in bytes; 0 is none.
func limited(memory, disk uint64, path string, env, argv []string) []string {
	made := make([]string, 0, 2+listsAt+len(env)+len(argv))
	made = append(made, "starter", becomeVerb, strconv.FormatUint(memory, 10), strconv.FormatUint(disk, 10),
		strconv.Itoa(len(env)), path)
	return append(append(made, env...), argv...)
}

// become sets limits on itself and executes the program that the arguments name. Never returns: what goes wrong is
// told as an error's number to the pipe in descriptor 3.
//
// Go can't do more between its fork and exec than it was made for, and limits set from outside would come too late.
// Once address space is limited, which is below what Go has reserved, nothing may be allocated and no thread may be
// made, so from there on these are bare system calls. As long as one processor is allowed, and used by this code, no
// other thread makes one either.
func become(arguments []string) {
	syscall.CloseOnExec(tellDescriptor)
	memory, _ := strconv.ParseUint(arguments[0], 10, 64)
	disk, _ := strconv.ParseUint(arguments[1], 10, 64)
	variables, _ := strconv.Atoi(arguments[2])
	path, err := syscall.BytePtrFromString(arguments[3])
	check(err)
	lists := arguments[listsAt:]
	env, err := syscall.SlicePtrFromStrings(lists[:variables])
	check(err)
	argv, err := syscall.SlicePtrFromStrings(lists[variables:])
	check(err)
	if disk > 0 {
		limit, err := within(syscall.RLIMIT_FSIZE, disk)
		check(err)
		check(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	}
	// Newer versions of Go give back the limit of open files, which they have raised, when they execute something;
	// also if that fails, as this must.
	_ = syscall.Exec("", []string{""}, nil)
	limit, err := within(syscall.RLIMIT_AS, memory)
	check(err)
	if memory > 0 {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, syscall.RLIMIT_AS,
			uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
		fail(errno)
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
	fail(errno)
}

// within is a limit, or the lower one that there is already.
func within(resource int, wanted uint64) (syscall.Rlimit, error) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(resource, &limit)
	if wanted > limit.Max {
		wanted = limit.Max
	}
	return syscall.Rlimit{Cur: wanted, Max: wanted}, err
}

func check(err error) {
	if errno, ok := err.(syscall.Errno); ok {
		fail(errno)
	} else if err != nil {
		fail(syscall.EINVAL)
	}
}

// fail tells the error and ends, if it is one; without allocating anything.
func fail(errno syscall.Errno) {
	if errno == 0 {
		return
	}
	told := [1]byte{byte(errno)}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, tellDescriptor, uintptr(unsafe.Pointer(&told)), 1)
	_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, notExecuted>>8, 0, 0)
	os.Exit(notExecuted >> 8)
}

// told is the error that a child's end of the pipe tells of; nil if it was executed. The end is closed.
func told(pipe int) error {
	var number [1]byte
	size, err := syscall.Read(pipe, number[:])
	_ = syscall.Close(pipe)
	if err != nil || size == 0 {
		return nil
	}
	return syscall.Errno(number[0])
}
