package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

var errEnding = errors.New("the pod is ending, and starts nothing any more")

// fork executes a program as the leader of a session and a group of its own; it dies with us. Returns when it is
// executed, or why it can't be.
func fork(path string, argv, env []string, directory string, files []uintptr) (int, error) {
	return syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Dir:   directory,
		Env:   env,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
}

// explained says why a program could not be executed, in words for the author of a step.
func explained(err error, name, path, directory string) error {
	if err == nil {
		return nil
	}
	if found, missing := os.Stat(directory); missing != nil || !found.IsDir() {
		return fmt.Errorf("%s: there is no directory %s here", name, directory)
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		if _, missing := os.Stat(path); missing == nil {
			return fmt.Errorf("%s: %s is there, but not the interpreter or loader that it names", name, path)
		}
		return noSuchProgram(name)
	case errors.Is(err, syscall.EACCES):
		return notExecutable(name, path)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%s: %s is neither a program for %s nor a script with a first line #!", name, path, runtime.GOARCH)
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("%s: a word or variable with a zero byte can't be given to a program", name)
	}
	return fmt.Errorf("%s: %w", name, err)
}

func noSuchProgram(name string) error { return fmt.Errorf("%s: no such program in this image", name) }

func notExecutable(name, path string) error {
	return fmt.Errorf("%s: %s may not be executed by user %d", name, path, os.Getuid())
}
