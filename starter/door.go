package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

const (
	mostPathBytes = 107 // what the kernel has room for
	aside         = ".new"
	waiting       = 8
)

// door is the socket that daemons come in by, one at a time: who comes meanwhile waits until the other has left and
// all that it had started is gone.
type door struct {
	path    string
	socket  int
	allowed map[uint32]bool
}

// open makes the socket. It is made aside and moved to its place, so that it is never seen without its permissions, or
// before somebody listens; what a container that was killed has left there is replaced.
func open(path string, allowed map[uint32]bool, group int) (*door, error) {
	made := path + aside
	if len(made) > mostPathBytes {
		return nil, fmt.Errorf("%s: the path of a socket may have at most %d bytes, and this has %d;"+
			" choose a shorter directory for the node's state", path, mostPathBytes-len(aside), len(path))
	}
	if err := replaceable(path); err != nil {
		return nil, err
	}
	if err := os.Remove(made); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := prepare(socket, made, group); err != nil {
		_ = syscall.Close(socket)
		return nil, fmt.Errorf("%s: no socket can be made there: %w", path, err)
	}
	if err := os.Rename(made, path); err != nil {
		return nil, err
	}
	return &door{path: path, socket: socket, allowed: allowed}, nil
}

// serve obeys one daemon after another; it returns if there can't be another one.
func (d *door) serve(children *children) error {
	for {
		socket, _, err := syscall.Accept4(d.socket, syscall.SOCK_CLOEXEC)
		if err == syscall.EINTR || err == syscall.ECONNABORTED {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
		talk := &conversation{socket: socket}
		if err := d.check(socket); err != nil {
			say("%v", err)
			talk.close()
			continue
		}
		children.serve(talk)
		talk.close()
	}
}

// remove takes the socket away: no daemon shall come any more.
func (d *door) remove() { _ = os.Remove(d.path) }

func (d *door) check(socket int) error {
	peer, err := syscall.GetsockoptUcred(socket, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return err
	}
	if !d.allowed[peer.Uid] {
		return fmt.Errorf("user %d was turned away: it is neither root nor our own user %d, nor among --peers",
			peer.Uid, os.Getuid())
	}
	return nil
}

// replaceable is nil if nothing is at the path that is of use to anybody.
func replaceable(path string) error {
	found, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if found.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s: there is something else than a socket; remove it or choose another path", path)
	}
	probe, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(probe)
	if err := syscall.Connect(probe, &syscall.SockaddrUnix{Name: path}); err == nil || err == syscall.EAGAIN {
		return fmt.Errorf("%s: somebody listens there already; give every worker a socket of its own", path)
	}
	return nil
}

func prepare(socket int, path string, group int) error {
	if err := syscall.Bind(socket, &syscall.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	mode := os.FileMode(0o600)
	if group >= 0 {
		mode = 0o660
		if err := os.Chown(path, -1, group); err != nil {
			return err
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return syscall.Listen(socket, waiting)
}
