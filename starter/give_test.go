package main

import "testing"

func TestAnOwnerIsTwoNumbers(t *testing.T) {
	made, err := ownerOf("65532:100")
	if err != nil || *made != (owner{65532, 100}) {
		t.Errorf("found %v, %v", made, err)
	}
	if made, err := ownerOf(""); made != nil || err != nil {
		t.Errorf("nobody was asked for, and found %v, %v", made, err)
	}
	for _, wrong := range []string{"65532", "root:root", "1:", ":1", "-1:1", "1:1:1"} {
		if made, err := ownerOf(wrong); err == nil {
			t.Errorf("%q was taken for %v", wrong, made)
		}
	}
}
