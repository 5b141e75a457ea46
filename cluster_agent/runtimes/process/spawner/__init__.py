"""A small process beside the daemon that starts the workers, and outlives the daemon just long enough to end them.

The daemon has threads and much memory, so it must not fork; this process has neither, so what has to happen between
fork and exec (session, limits, descriptors, death signal) can be plain code, and a warm interpreter is a fork away.
Programs without limits need none of that: posix_spawn starts them, at a third of the price of a fork of an interpreter.
Stands alone, on the standard library: `python -I spawner FD OWNER MEMORY`.

Over the socket FD come requests, length-prefixed JSON, several at a time. A request with "descriptors" is told with so
many of them passed along:

    {"slot", "env", "descriptors": 2}    a place for programs, one after another: their standard output and error
    {"slot", "id", "argv", "env", "directory", "memory", "disk"}    execute a program there; `env` is added
    {"slot"}                             no more of that place
    {"id", "function", "env", "descriptors": 3}    become an interpreter that serves its control socket
    {"id", "signal"}                     send it to a child's group

Back go {"started": id, "pid"} and {"failed": id, "error"} of interpreters, and of all children {"exited": id, "status",
"peak_memory", "error", "strays"}: why it could not be executed, and whether it has left processes behind. A child leads
a session and a process group of its own. When it ends its group is killed before that is told, and so is whatever of it
escaped to another group and became our orphan: it is known by its session, or by BDW_FED_WORKER in its environment.
When the socket ends, the daemon is gone: everything is killed, and the directory MEMORY removed (empty: there is none).
Should this process be killed, an interpreter is, too; programs are known to the daemon by OWNER in the same variable
(see `sweeping`).
"""
