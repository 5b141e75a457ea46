package main

// order is any request of the daemon's; which one is told by what it has, see the spawner.
type order struct {
	ID          int             `json:"id"`
	Slot        int             `json:"slot"`
	Argv        []text          `json:"argv"`
	Function    *text           `json:"function"`
	Signal      int             `json:"signal"`
	Env         map[string]text `json:"env"`
	Directory   text            `json:"directory"`
	Memory      uint64          `json:"memory"`
	Disk        uint64          `json:"disk"`
	Descriptors int             `json:"descriptors"`
}

// hello is the first thing that a daemon hears: everything that was started before is gone by then. Interpreters are
// in the order of preference; without any, the image can't run python steps. Env is what the image gives its programs.
type hello struct {
	Hello        int             `json:"hello"` // the version of the conversation
	Pid          int             `json:"pid"`
	UID          int             `json:"uid"`
	Interpreters []text          `json:"python"`
	Env          map[string]text `json:"env"`
}

type started struct {
	ID  int `json:"started"`
	Pid int `json:"pid"`
}

type failed struct {
	ID    int  `json:"failed"`
	Error text `json:"error"`
}

// exited tells of an end: the wait status, bytes, why it could not be executed, and whether it left processes behind.
type exited struct {
	ID         int    `json:"exited"`
	Status     uint32 `json:"status"`
	PeakMemory int64  `json:"peak_memory"`
	Error      text   `json:"error"`
	Strays     bool   `json:"strays"`
}

// notExecuted is the wait status of what ended with exit code 127, as shells have it.
const notExecuted = 127 << 8
