// A program that is the only file of its image: it writes its input in capitals.
package main

import (
	"bytes"
	"log"
	"os"
)

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(os.Args[2], bytes.ToUpper(text), 0o644); err != nil {
		log.Fatal(err)
	}
}
