package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// workerDirectory is what an interpreter executes: a directory of modules beside this program.
const workerDirectory = "worker"

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
	beside := filepath.Join(filepath.Dir(self), workerDirectory)
	modules, err := filepath.Glob(filepath.Join(beside, "*.py"))
	if err != nil {
		return err
	}
	if len(modules) == 0 {
		return fmt.Errorf("install: expected the modules of the %s beside this program, at %s", workerDirectory, beside)
	}
	to := filepath.Join(directory, workerDirectory)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	for _, module := range modules {
		if err := copyFile(module, filepath.Join(to, filepath.Base(module)), 0o644); err != nil {
			return fmt.Errorf("install: %w", err)
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
