package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func put(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAProgramIsLookedForInThePathAndNowhereElse(t *testing.T) {
	root := t.TempDir()
	put(t, root+"/one/plain", 0o644)
	first := put(t, root+"/one/both", 0o755)
	put(t, root+"/two/both", 0o755)
	second := put(t, root+"/two/plain", 0o755)
	put(t, root+"/task/own", 0o755)
	if err := os.Mkdir(root+"/one/folder", 0o755); err != nil {
		t.Fatal(err)
	}
	path := root + "/one:" + root + "/two"
	for _, each := range []struct{ name, path, found, words string }{
		{"both", path, first, ""},
		{"plain", path, second, ""},
		{"plain", root + "/one", "", "may not be executed"},
		{"own", path, "", "no such program in this image"},
		{"folder", path, "", "no such program in this image"},
		{"own", ".", "./own", ""},
		{"own", path + ":", "./own", ""},
		{"both", "../one", "../one/both", ""},
		{"./any", path, "./any", ""},
	} {
		found, err := finder{}.find(each.name, each.path, root+"/task")
		if found != each.found || (err == nil) != (each.words == "") ||
			(err != nil && !strings.Contains(err.Error(), each.words)) {
			t.Errorf("%s in %s: %q, %v; expected %q %s", each.name, each.path, found, err, each.found, each.words)
		}
	}
}

func TestAProgramThatWasRemovedIsLookedForAgain(t *testing.T) {
	root := t.TempDir()
	first := put(t, root+"/one/both", 0o755)
	second := put(t, root+"/two/both", 0o755)
	known := finder{}
	for _, expected := range []string{first, second} {
		found, err := known.find("both", root+"/one:"+root+"/two", "/")
		if err != nil || found != expected {
			t.Fatal(found, err)
		}
		if err := os.Remove(found); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheLastEnvironmentsPathCounts(t *testing.T) {
	slot, own := map[string]text{"PATH": "/slot"}, map[string]text{"PATH": "/own"}
	if pathOf(nil, nil) != defaultPath || pathOf(slot, nil) != "/slot" || pathOf(slot, own) != "/own" {
		t.Error(pathOf(nil, nil), pathOf(slot, nil), pathOf(slot, own))
	}
}

func TestAnEnvironmentHasEachNameOnceAndItsChildsNumber(t *testing.T) {
	env := merged(map[string]text{"A": "1", "B": "2", mark: "9@x"}, map[string]text{"B": "3", mark: "8@x"}, 7)
	joined := strings.Join(env, " ")
	if len(env) != 3 || !strings.Contains(joined, "A=1") || !strings.Contains(joined, "B=3") || env[2] != mark+"=7@starter" {
		t.Error(env)
	}
}
