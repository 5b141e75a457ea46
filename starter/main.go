// Starter is the one program of ours in a pod that is made of a user's own image: it executes what the node daemon
// orders, so that an image needs no shell, no Python and nothing else of ours to be a warm worker.
//
// It speaks the conversation of cluster_agent/runtimes/process/spawner, over a Unix socket that it listens on:
//
//	daemon ── orders, descriptors ──▶ conversation ──▶ children ──▶ fork and exec (programs, interpreters)
//	daemon ◀── hello, started, exited ───────────────── children ◀── reaper: all that dies below us
//
// The socket lies in a directory of the node that is mounted at the same path here and at the daemon. Whoever may open
// it and is of an allowed user is obeyed, so there is no port and no key (docs/decisions/0013-a-starter-in-the-pod.md).
//
// Built, as everywhere, by `make starter`, which says
//
//	cd starter && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../build/starter .
//
// with Go 1.19 (Debian bookworm's golang-go) or newer, and nothing but its standard library.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `starter executes what the node daemon orders, in a pod made of any image.

  starter [OPTIONS] SOCKET     listen on this path and serve one daemon after another
  starter install DIRECTORY    copy this program, and the worker beside it, into a directory

Options:
`

func main() {
	arguments := os.Args[1:]
	if len(arguments) > 0 && arguments[0] == becomeVerb {
		become(arguments[1:])
	}
	if err := run(arguments); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			say("%v", err)
			os.Exit(2)
		}
	}
}

func run(arguments []string) error {
	if len(arguments) > 0 && arguments[0] == "install" {
		if len(arguments) != 2 {
			return errors.New("install: expected one directory; try `starter --help`")
		}
		return install(arguments[1])
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("/proc is needed to find out what this program is called: %w", err)
	}
	flags := flag.NewFlagSet("starter", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	worker := flags.String("worker", filepath.Join(filepath.Dir(self), workerDirectory), "`directory` that an interpreter executes")
	python := flags.String("python", "", "the interpreter's `path`; by default python3 or python on PATH")
	peers := flags.String("peers", "", "`users` by number, with commas, who may order besides root and our own user")
	group := flags.Int("group", -1, "`group` by number that may open the socket; by default only our own user may")
	give := flags.String("give", "", "`owner` by number, USER:GROUP, who gets what programs make; for a starter that is root")
	grace := flags.Duration("grace", 5*time.Second, "`time` that processes have to end when the pod does")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() != 1 || !filepath.IsAbs(flags.Arg(0)) {
		return errors.New("expected one absolute path of a socket, behind the options; try `starter --help`")
	}
	allowed, err := users(*peers)
	if err != nil {
		return err
	}
	if err := settle(); err != nil {
		return err
	}
	giveTo, err := ownerOf(*give)
	if err != nil {
		return err
	}
	children, err := newChildren(image{interpreters: interpreters(*python), worker: *worker})
	if err != nil {
		return err
	}
	children.giveTo, children.home = giveTo, filepath.Dir(flags.Arg(0))
	door, err := open(flags.Arg(0), allowed, *group)
	if err != nil {
		return err
	}
	endings := make(chan os.Signal, 1)
	signal.Notify(endings, syscall.SIGTERM, syscall.SIGINT)
	// Heard and dropped: ignored they would be in children too. A log that nobody reads any more must not end us.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		say("%v: all processes have %v to end", <-endings, *grace)
		door.remove()
		children.endAll(*grace)
		os.Exit(0)
	}()
	go children.reap()
	say("listening on %s as user %d", door.path, os.Getuid())
	return door.serve(children)
}

// settle makes this process what its children expect of their ancestor.
func settle() error {
	const setChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		return fmt.Errorf("orphans can't be made ours: %w", errno)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("core dumps can't be turned off: %w", err)
	}
	return os.Chdir("/")
}

// users reads the numbers of users, with commas between them.
func users(list string) (map[uint32]bool, error) {
	allowed := map[uint32]bool{0: true, uint32(os.Getuid()): true}
	for _, word := range strings.Split(list, ",") {
		if word == "" {
			continue
		}
		number, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--peers: %q is no user's number; expected for example 1000,65532", word)
		}
		allowed[uint32(number)] = true
	}
	return allowed, nil
}

// say writes a line into the pod's log.
func say(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "starter: "+format+"\n", values...)
}
