package main

import (
	"fmt"
	"os"
	"strings"
)

// image is what the user's image has that matters to a daemon.
type image struct {
	interpreters []text // of Python, absolute, the preferred one first
	worker       string // the directory of modules that they execute
}

// interpreters are those of Python that are on our PATH, or the one that was asked for.
func interpreters(asked string) []text {
	names := []string{"python3", "python"}
	if asked != "" {
		names = []string{asked}
	}
	found := []text{}
	for _, name := range names {
		path, err := finder{}.find(name, pathOf(environment()), "/")
		if status, missing := os.Stat(path); err == nil && missing == nil && !status.IsDir() {
			found = append(found, text(path))
		}
	}
	return found
}

// interpreter is how one is executed that serves its descriptor 3.
func (i image) interpreter() ([]string, error) {
	if len(i.interpreters) == 0 {
		return nil, fmt.Errorf("this image has no Python: neither python3 nor python is on its PATH, %s;"+
			" use an image that has it, or make the step a command", pathOf(environment()))
	}
	if _, err := os.Stat(i.worker); err != nil {
		return nil, fmt.Errorf("the worker was not put beside the starter: %w", err)
	}
	return []string{string(i.interpreters[0]), "-I", "-X", "utf8", i.worker, "3"}, nil
}

// environment is ours, which is what the image and the pod say.
func environment() map[string]text {
	env := map[string]text{}
	for _, entry := range os.Environ() {
		if name, value, ok := strings.Cut(entry, "="); ok {
			env[name] = text(value)
		}
	}
	return env
}
