package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// defaultPath is where programs are if an image does not say.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const executable = 1 // X_OK

// finder remembers where programs were found, by name and PATH, as shells do.
type finder map[[2]string]string

// find is where the program is that a name means, to one who is in the directory.
func (f finder) find(name, path, directory string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	key := [2]string{name, path}
	if known, ok := f[key]; ok && syscall.Access(known, executable) == nil {
		return known, nil
	}
	err := noSuchProgram(name)
	for _, folder := range filepath.SplitList(path) {
		if folder == "" {
			folder = "."
		}
		found := filepath.Join(folder, name)
		if !strings.Contains(found, "/") {
			found = "./" + found
		}
		from := inside(directory, found)
		status, missing := os.Stat(from)
		if missing != nil || status.IsDir() {
			continue
		}
		if syscall.Access(from, executable) != nil {
			err = notExecutable(name, from)
			continue
		}
		if filepath.IsAbs(found) {
			f[key] = found
		}
		return found, nil
	}
	return "", err
}

// inside is what a path means to one who is in the directory.
func inside(directory, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(directory, path)
}

// pathOf is the PATH of these environments; the last one that has it counts.
func pathOf(environments ...map[string]text) string {
	path := text(defaultPath)
	for _, env := range environments {
		if told, ok := env["PATH"]; ok {
			path = told
		}
	}
	return string(path)
}
