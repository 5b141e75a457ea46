package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// workerFile is what an interpreter executes, and programsFile what it loads for the small jobs of a command; both lie
// beside this program.
const (
	workerFile   = "worker.py"
	programsFile = "programs.py"
)

// install copies this program and what lies beside it into a directory: an init container whose image holds these
// files alone has no other program that could.
func install(directory string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := copyFile(self, filepath.Join(directory, "starter"), 0o755); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	for _, name := range []string{workerFile, programsFile} {
		beside := filepath.Join(filepath.Dir(self), name)
		err = copyFile(beside, filepath.Join(directory, name), 0o644)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("install: expected %s beside this program, at %s", name, beside)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyFile makes a copy that is there whole or not at all.
func copyFile(from, to string, mode os.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	made, err := os.CreateTemp(filepath.Dir(to), ".install-*")
	if err != nil {
		return err
	}
	defer os.Remove(made.Name())
	_, err = io.Copy(made, source)
	if err == nil {
		err = made.Chmod(mode)
	}
	if closing := made.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(made.Name(), to)
}
