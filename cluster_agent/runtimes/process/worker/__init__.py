"""The worker's side of a `python` step: a warm interpreter that calls one function for task after task.

Stands alone, on the standard library of Python 3.9 and later: the spawner loads this package and forks itself, or
`python -I worker FD` starts it, in a pod of the user's image. Either way it is the package `bdw_fed_worker` there, so
that no name of ours is in the way of a step's own. Frames go both ways over a socket with the daemon; a frame is the
lengths of a JSON list and of the bytes behind it, the list, the bytes.

    daemon ── warm ──────────────▶ worker ── ready | failed ─▶ daemon
    daemon ── run, work, jobs, go ─▶ worker ── done ───────────▶ daemon

A `run` is one task in a directory that the daemon made. `jobs` are small tasks of a `work` that was told before, many
in a frame: their inputs come along and are written into a directory of the worker's own, and small outputs go back with
the answer, so that the daemon touches no file. That directory lies in memory where it can. It is used again once it is
empty, under another name for each task, as a step may remember things by their path; its `tmp` is on the disk. What the
function takes and returns as values is in no file, unless it is large; a task that has nothing else gets the directory
as it is, which is all that is looked at afterwards.

A small task may be *linked*: its input is an output of the one before it, which it follows at once. The answer of the
one before is written to a file first, so that whoever dies, a task that has begun did so with an input that is known.
If there is no such output nothing that is linked behind it is executed, and nothing is said of it.

Answers leave when there is nothing else to do, or some have waited for a millisecond. After a task that has printed or
left a large output the worker waits for `go`: what is in the pipes, or in the directory, is that task's, and the daemon
takes it. The two also share some memory: the worker writes there which job it begins, so that its death is charged to
that one, and the answers that it has not sent yet, so that they are not lost with it, nor held up by a job that takes
long; the daemon, up to which job it may go on without asking.

A task has ended when all processes that it started have. What the function prints goes to the inherited standard
streams. When the socket ends, so does the worker.

    serving ─▶ loop ─▶ jobs, place, values ─▶ the step's function, or programs
                 └─▶ frames
"""
