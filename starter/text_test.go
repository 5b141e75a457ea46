package main

import (
	"encoding/json"
	"testing"
)

// Names of files are bytes: each text is what Python's json.dumps makes of os.fsdecode of the bytes beside it.
var texts = []struct{ python, raw string }{
	{`""`, ""},
	{`"plain \"\\\n"`, "plain \"\\\n"},
	{`"\u00e4\u20ac\ud83d\ude00"`, "ä€😀"},
	{`"\udcff"`, "\xff"},
	{`"a\udcffb\udc80"`, "a\xffb\x80"},
	{`"\ud83d\ude00\udcff\ud83d\ude00"`, "😀\xff😀"},
	{`"\\udcff"`, `\udcff`},
	{`"\\\udcff\\"`, "\\\xff\\"},
	{`"\udcc3("`, "\xc3("},
}

func TestTextsHaveTheBytesThatPythonMeans(t *testing.T) {
	for _, each := range texts {
		var read text
		if err := json.Unmarshal([]byte(each.python), &read); err != nil || string(read) != each.raw {
			t.Errorf("%s: read as %q, %v; expected %q", each.python, read, err, each.raw)
		}
		written, err := json.Marshal(text(each.raw))
		if err != nil {
			t.Fatal(err)
		}
		var again text
		if err := json.Unmarshal(written, &again); err != nil || string(again) != each.raw {
			t.Errorf("%q: written as %s, read again as %q, %v", each.raw, written, again, err)
		}
	}
}

func FuzzTextsSurviveTheWay(f *testing.F) {
	for _, each := range texts {
		f.Add([]byte(each.raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		written, err := json.Marshal(text(raw))
		if err != nil {
			t.Fatal(err)
		}
		var read text
		if err := json.Unmarshal(written, &read); err != nil || string(read) != string(raw) {
			t.Errorf("%q: written as %s, read as %q, %v", raw, written, read, err)
		}
	})
}
