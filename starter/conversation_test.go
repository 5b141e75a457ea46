package main

import (
	"encoding/binary"
	"os"
	"strings"
	"syscall"
	"testing"
)

func framed(body string) []byte {
	frame := make([]byte, lengthBytes)
	binary.LittleEndian.PutUint32(frame, uint32(len(body)))
	return append(frame, body...)
}

// talk lets a daemon send pieces, each with so many descriptors, and returns what was ordered.
func talk(t *testing.T, pieces [][]byte, counts []int) ([]order, []int, error) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	go func() {
		defer syscall.Close(pair[0])
		for i, piece := range pieces {
			var rights []byte
			if counts[i] > 0 {
				descriptors := make([]int, counts[i])
				for n := range descriptors {
					descriptors[n] = int(null.Fd())
				}
				rights = syscall.UnixRights(descriptors...)
			}
			if syscall.Sendmsg(pair[0], piece, rights, nil, 0) != nil {
				return
			}
		}
	}()
	heard := &conversation{socket: pair[1]}
	defer heard.close()
	var orders []order
	var passed []int
	err = heard.receive(func(told order, descriptors []int) error {
		orders = append(orders, told)
		passed = append(passed, len(descriptors))
		closeAll(descriptors)
		return nil
	})
	return orders, passed, err
}

func TestOrdersArriveHoweverTheyAreCut(t *testing.T) {
	whole := append(framed(`{"slot":1,"env":{},"descriptors":2}`), framed(`{"slot":1,"id":7,"argv":["a"]}`)...)
	for cut := 1; cut < len(whole); cut++ {
		orders, passed, err := talk(t, [][]byte{whole[:cut], whole[cut:]}, []int{2, 0})
		if err != nil || len(orders) != 2 || orders[1].ID != 7 || passed[0] != 2 || passed[1] != 0 {
			t.Fatalf("cut at %d: %v, %v, %v", cut, orders, passed, err)
		}
	}
}

func TestDescriptorsGoToTheOrderThatTheyCameWith(t *testing.T) {
	_, passed, err := talk(t, [][]byte{
		framed(`{"slot":1,"env":{},"descriptors":2}`),
		framed(`{"id":2,"function":"f","env":{},"descriptors":3}`),
		framed(`{"slot":1}`),
	}, []int{2, 3, 0})
	if err != nil || len(passed) != 3 || passed[0] != 2 || passed[1] != 3 || passed[2] != 0 {
		t.Fatal(passed, err)
	}
}

func TestWhatIsNoOrderIsSaidToBeNone(t *testing.T) {
	for words, piece := range map[string][]byte{
		"not understood":   framed("{"),
		"4294967295 bytes": {0xff, 0xff, 0xff, 0xff},
		"tells of 2":       framed(`{"slot":1,"descriptors":2}`),
		"tells of -1":      framed(`{"slot":1,"descriptors":-1}`),
		"cannot unmarshal": framed(`{"slot":"one"}`),
	} {
		if _, _, err := talk(t, [][]byte{piece}, []int{0}); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("expected %q, got %v", words, err)
		}
	}
	many := framed(`{"slot":1,"descriptors":2}`)
	if _, _, err := talk(t, [][]byte{many}, []int{100}); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("100 descriptors: %v", err)
	}
}
