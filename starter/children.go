package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// mark is a variable in the environment of all that a child starts; its value begins with the child's number.
const mark = "BDW_FED_WORKER"

// child is a process that a daemon has ordered; it leads a session and a group. One that had to set limits first has
// the end of a pipe that tells why it could not become what it should.
type child struct {
	number    int
	why       int // -1: none
	name      string
	path      string
	directory string // of a program
}

// slot is a place for programs, one after another: their standard output and error, and what is common to their
// environments.
type slot struct {
	descriptors []int
	env         map[string]text
}

// children are all processes below this one, those that were ordered by their process id. Orders come from the
// conversation on the first thread, ends from reap on another; all else is under the lock.
type children struct {
	lock    sync.Mutex
	changed *sync.Cond
	talk    *conversation // nil: nobody is there to be told
	byPid   map[int]child
	slots   map[int]slot
	forks   uint64 // that there were
	none    bool   // there is no process below us
	ending  bool   // the pod is
	image   image
	finder  finder
	listing *listing
	null    int
	giveTo  *owner
	home    string // the directory that all of theirs lie in
}

func newChildren(made image) (*children, error) {
	null, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s can't be opened: %w", os.DevNull, err)
	}
	c := &children{byPid: map[int]child{}, slots: map[int]slot{}, none: true, image: made, finder: finder{}, null: null}
	c.changed = sync.NewCond(&c.lock)
	c.listing = openListing()
	return c, nil
}

// serve obeys a daemon until it is gone, and leaves nothing behind of what it had started.
func (c *children) serve(talk *conversation) {
	c.lock.Lock()
	c.talk = talk
	talk.say(hello{protocolVersion, os.Getpid(), os.Getuid(), c.image.interpreters, environment()})
	c.lock.Unlock()
	say("a daemon is there")
	if err := talk.receive(c.obey); err != nil {
		say("the daemon is left: %v", err)
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	c.talk = nil
	for number := range c.slots {
		c.closeSlot(number)
	}
	say("the daemon is gone, and %d processes with it", len(c.byPid))
	c.killAll()
	for !c.none {
		c.changed.Wait()
	}
	c.giveTo.take(c.home)
}

// endAll lets all processes end, and kills those that have not after some time. Nothing is started any more.
func (c *children) endAll(grace time.Duration) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.ending = true
	for pid := range c.byPid {
		_ = syscall.Kill(-pid, syscall.SIGTERM)
	}
	time.AfterFunc(grace, func() {
		c.lock.Lock()
		defer c.lock.Unlock()
		c.killAll()
	})
	for !c.none {
		c.changed.Wait()
	}
	c.giveTo.take(c.home)
}

func (c *children) obey(told order, descriptors []int) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	switch {
	case told.Argv != nil:
		place, known := c.slots[told.Slot]
		if !known {
			closeAll(descriptors)
			return fmt.Errorf("a program is ordered in slot %d, which there is not", told.Slot)
		}
		c.execute(told, place)
	case told.Function != nil:
		c.interpret(told, descriptors)
		closeAll(descriptors)
	case told.Signal != 0:
		c.signal(told.ID, syscall.Signal(told.Signal))
	case len(descriptors) > 0:
		c.closeSlot(told.Slot)
		c.slots[told.Slot] = slot{descriptors, told.Env}
	default:
		c.closeSlot(told.Slot)
	}
	return nil
}

// execute starts a program. Limits are set by a short life of this program in between, see become.
func (c *children) execute(told order, place slot) {
	pid, made, err := c.startProgram(told, place)
	if err != nil {
		c.say(exited{ID: told.ID, Status: notExecuted, Error: text(err.Error())})
		return
	}
	c.add(pid, made)
}

func (c *children) startProgram(told order, place slot) (int, child, error) {
	made := child{number: told.ID, why: -1}
	if c.ending {
		return 0, made, errEnding
	}
	if len(told.Argv) == 0 || len(place.descriptors) != 2 {
		return 0, made, fmt.Errorf("expected a program and two descriptors of its slot")
	}
	env := merged(place.env, told.Env, told.ID)
	directory := string(told.Directory)
	made.directory = directory
	made.name = string(told.Argv[0])
	path, err := c.finder.find(made.name, pathOf(place.env, told.Env), directory)
	if err != nil {
		return 0, made, err
	}
	made.path = inside(directory, path)
	argv := words(told.Argv)
	files := []uintptr{uintptr(c.null), uintptr(place.descriptors[0]), uintptr(place.descriptors[1])}
	if told.Memory == 0 && told.Disk == 0 {
		pid, err := fork(path, argv, env, directory, files)
		return pid, made, explained(err, made.name, made.path, directory)
	}
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return 0, made, fmt.Errorf("%s: no pipe could be made: %w", made.name, err)
	}
	defer syscall.Close(ends[1])
	argv = limited(told.Memory, told.Disk, path, env, argv)
	pid, err := fork(ourselves, argv, onlyOneThread, directory, append(files, uintptr(ends[1])))
	if err != nil {
		_ = syscall.Close(ends[0])
		return 0, made, explained(err, made.name, made.path, directory)
	}
	made.why = ends[0]
	return pid, made, nil
}

// interpret starts an interpreter that serves its control socket.
func (c *children) interpret(told order, descriptors []int) {
	if len(descriptors) != mostDescriptors {
		c.say(failed{told.ID, "expected three descriptors with an interpreter"})
		return
	}
	if c.ending {
		c.say(failed{told.ID, text(errEnding.Error())})
		return
	}
	argv, err := c.image.interpreter()
	if err != nil {
		c.say(failed{told.ID, text(err.Error())})
		return
	}
	files := []uintptr{uintptr(c.null)}
	for _, descriptor := range descriptors {
		files = append(files, uintptr(descriptor))
	}
	pid, err := fork(argv[0], argv, merged(told.Env, nil, told.ID), "/", files)
	if err != nil {
		c.say(failed{told.ID, text(explained(err, argv[0], argv[0], "/").Error())})
		return
	}
	c.add(pid, child{number: told.ID, why: -1})
	c.say(started{told.ID, pid})
}

func (c *children) add(pid int, made child) {
	c.byPid[pid] = made
	c.forks++
	c.none = false
	c.changed.Broadcast()
}

func (c *children) signal(number int, which syscall.Signal) {
	for pid, known := range c.byPid {
		if known.number == number {
			_ = syscall.Kill(-pid, which)
		}
	}
}

// killAll kills what was ordered, and forgets it; reap sees to whatever becomes ours by that.
func (c *children) killAll() {
	for pid, known := range c.byPid {
		killGroup(pid)
		if known.why >= 0 {
			_ = syscall.Close(known.why)
		}
		delete(c.byPid, pid)
	}
	c.endStrays(0)
}

func (c *children) closeSlot(number int) {
	closeAll(c.slots[number].descriptors)
	delete(c.slots, number)
}

func (c *children) say(answer any) {
	if c.talk != nil {
		c.talk.say(answer)
	}
}

// merged is the environment of a child: the second adds to the first, and its number to both.
func merged(common, own map[string]text, number int) []string {
	env := make([]string, 0, len(common)+len(own)+1)
	for name, value := range common {
		if _, again := own[name]; !again && name != mark {
			env = append(env, name+"="+string(value))
		}
	}
	for name, value := range own {
		if name != mark {
			env = append(env, name+"="+string(value))
		}
	}
	return append(env, mark+"="+strconv.Itoa(number)+"@starter")
}

func words(argv []text) []string {
	made := make([]string, len(argv))
	for i, word := range argv {
		made[i] = string(word)
	}
	return made
}

func closeAll(descriptors []int) {
	for _, descriptor := range descriptors {
		_ = syscall.Close(descriptor)
	}
}
