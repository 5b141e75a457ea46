package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// owner is who gets what programs have made: a daemon that is not root can read, move and remove no other files. Nobody
// needs that where this program runs as the daemon's own user; as root it does, see --give.
type owner struct{ user, group int }

// ownerOf reads USER:GROUP, both by number; empty is nobody.
func ownerOf(text string) (*owner, error) {
	if text == "" {
		return nil, nil
	}
	user, group, _ := strings.Cut(text, ":")
	made := owner{}
	var wrong, alsoWrong error
	made.user, wrong = strconv.Atoi(user)
	made.group, alsoWrong = strconv.Atoi(group)
	if wrong != nil || alsoWrong != nil || made.user < 0 || made.group < 0 {
		return nil, errors.New("--give: expected numbers of a user and a group, for example 65532:65532; found " + text)
	}
	return &made, nil
}

// take makes a directory with all that is in it the owner's. Links are not followed; what is gone meanwhile is no matter.
func (o *owner) take(directory string) {
	if o == nil || directory == "" {
		return
	}
	_ = filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if entry == nil {
			return nil
		}
		if failed := os.Lchown(path, o.user, o.group); failed != nil && !errors.Is(failed, os.ErrNotExist) {
			say("%v", failed)
		}
		return nil
	})
}
