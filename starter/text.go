package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// text is a string of any bytes. Python writes a byte that is no UTF-8 as half of a surrogate pair, \udc80 to \udcff,
// which encoding/json would replace; names of files and parameters must arrive as they are.
type text string

var half = []byte(`\udc`)

// UnmarshalJSON reads a JSON string.
func (t *text) UnmarshalJSON(raw []byte) error {
	if !bytes.Contains(raw, half) {
		var plain string
		err := json.Unmarshal(raw, &plain)
		*t = text(plain)
		return err
	}
	var whole, since []byte // read, and not read yet
	for at := 1; at < len(raw)-1; {
		escape := escapeAt(raw, at)
		if code, lone := loneByte(escape); lone {
			piece, err := unquote(since)
			if err != nil {
				return err
			}
			whole, since = append(append(whole, piece...), code), nil
		} else {
			since = append(since, escape...)
		}
		at += len(escape)
	}
	piece, err := unquote(since)
	*t = text(append(whole, piece...))
	return err
}

// MarshalJSON writes a JSON string, as Python would.
func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	made := []byte{'"'}
	for rest := string(t); rest != ""; {
		char, size := utf8.DecodeRuneInString(rest)
		if char == utf8.RuneError && size == 1 {
			made = append(made, fmt.Sprintf(`\udc%02x`, rest[0])...)
		} else {
			quoted, err := json.Marshal(rest[:size])
			if err != nil {
				return nil, err
			}
			made = append(made, quoted[1:len(quoted)-1]...)
		}
		rest = rest[size:]
	}
	return append(made, '"'), nil
}

// escapeAt is what belongs together at this place: a character, an escape, a surrogate pair.
func escapeAt(raw []byte, at int) []byte {
	end := at + 1
	if raw[at] == '\\' {
		end = at + 2
		if raw[at+1] == 'u' {
			end = at + 6
			pair := raw[at+2] == 'd' && raw[at+3] >= '8' && raw[at+3] <= 'b'
			if pair && bytes.HasPrefix(raw[end:], []byte(`\ud`)) {
				end += 6
			}
		}
	}
	if end > len(raw)-1 {
		end = len(raw) - 1
	}
	return raw[at:end]
}

func loneByte(escape []byte) (byte, bool) {
	if len(escape) != 6 || !bytes.HasPrefix(escape, half) {
		return 0, false
	}
	code, err := strconv.ParseUint(string(escape[4:]), 16, 8)
	return byte(code), err == nil && code >= 0x80
}

func unquote(inside []byte) (string, error) {
	var plain string
	err := json.Unmarshal(append(append([]byte{'"'}, inside...), '"'), &plain)
	return plain, err
}
