package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
)

const (
	lengthBytes      = 4
	readBytes        = 64 << 10
	mostFrameBytes   = 64 << 20
	mostDescriptors  = 3 // of one order
	protocolVersion  = 1
	controlBytesOurs = 64 // more than those need
)

// conversation is a connection with a daemon: orders in, with descriptors passed along, and answers out. Frames are
// JSON behind its length.
type conversation struct {
	socket   int
	buffer   []byte
	passed   []int // descriptors that no order has taken yet; they come with the first byte of theirs, in order
	received [readBytes]byte
	control  [controlBytesOurs]byte
}

// receive waits for orders, and gives each to `obey`. An error is the end of the conversation, nil a regular one.
func (c *conversation) receive(obey func(order, []int) error) error {
	for {
		size, err := c.read()
		if err != nil || size == 0 {
			return err
		}
		for {
			body, rest, err := split(c.buffer)
			if err != nil {
				return err
			}
			if body == nil {
				break
			}
			if err := c.give(body, obey); err != nil {
				return err
			}
			c.buffer = rest
		}
		if len(c.buffer) == 0 {
			c.buffer = nil // may have held something large
		}
	}
}

// say sends an answer. What is outstanding at one time is little, so this waits for no daemon that works; one that
// does not read any more learns nothing anyway, and its end is seen by receive.
func (c *conversation) say(answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		say("an answer can't be written: %v", err)
		return
	}
	frame := make([]byte, lengthBytes, lengthBytes+len(body))
	binary.LittleEndian.PutUint32(frame, uint32(len(body)))
	frame = append(frame, body...)
	for len(frame) > 0 {
		sent, err := syscall.Write(c.socket, frame)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return
		}
		frame = frame[sent:]
	}
}

// close ends the conversation, with all descriptors that nobody has taken.
func (c *conversation) close() {
	for _, descriptor := range c.passed {
		_ = syscall.Close(descriptor)
	}
	c.passed = nil
	_ = syscall.Close(c.socket)
}

// read takes in what is there; 0 bytes are the regular end.
func (c *conversation) read() (int, error) {
	for {
		size, controlled, flags, _, err := syscall.Recvmsg(
			c.socket, c.received[:], c.control[:], syscall.MSG_CMSG_CLOEXEC)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.ECONNRESET {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		if err := c.take(c.control[:controlled]); err != nil {
			return 0, err
		}
		if flags&syscall.MSG_CTRUNC != 0 {
			return 0, errors.New("descriptors could not be received: too many in one order, or no room for them here")
		}
		c.buffer = append(c.buffer, c.received[:size]...)
		return size, nil
	}
}

func (c *conversation) take(control []byte) error {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return err
	}
	for i := range messages {
		descriptors, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return err
		}
		c.passed = append(c.passed, descriptors...)
	}
	return nil
}

func (c *conversation) give(body []byte, obey func(order, []int) error) error {
	var told order
	if err := json.Unmarshal(body, &told); err != nil {
		return fmt.Errorf("an order is not understood: %w", err)
	}
	if told.Descriptors < 0 || told.Descriptors > mostDescriptors || told.Descriptors > len(c.passed) {
		return fmt.Errorf("an order tells of %d descriptors, %d were passed", told.Descriptors, len(c.passed))
	}
	descriptors := c.passed[:told.Descriptors:told.Descriptors]
	c.passed = c.passed[told.Descriptors:]
	return obey(told, descriptors)
}

// split is the first frame's body, and what follows it; nil if it is not all there yet.
func split(data []byte) (body, rest []byte, err error) {
	if len(data) < lengthBytes {
		return nil, data, nil
	}
	length := uint64(binary.LittleEndian.Uint32(data))
	if length > mostFrameBytes {
		return nil, nil, fmt.Errorf("an order has %d bytes, which is no order: at most %d", length, mostFrameBytes)
	}
	if uint64(len(data)) < lengthBytes+length {
		return nil, data, nil
	}
	return data[lengthBytes : lengthBytes+length], data[lengthBytes+length:], nil
}
