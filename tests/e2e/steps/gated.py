"""A service whose tasks say that they have begun, and wait until a gate is open: there is a middle to be killed in.

`marks` is a directory that the test sees, too: a file TASK.PID in it for each beginning; `gate` in it opens the gate.
"""

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["BDW_FED_SOCKET"])
lock = threading.Lock()


def send(message: dict[str, Any]) -> None:
    with lock:
        connection.sendall(json.dumps(message).encode() + b"\n")


def add(task: dict[str, Any]) -> None:
    marks = Path(task["parameters"]["marks"])
    (marks / f"{task['task']}.{os.getpid()}").touch()
    while not (marks / "gate").exists():
        time.sleep(0.01)
    numbers = [int(line) for line in Path(task["inputs"]["rows"]).read_text().split() if line.isdigit()]
    Path(task["outputs"]["sum"]).write_text(f"{sum(numbers)} {len(numbers)}\n")
    send({"result": {"id": task["id"]}})


send({"hello": {"version": 1}})
send({"ready": {}})
for line in connection.makefile():
    [(kind, told)] = json.loads(line).items()
    if kind == "task":
        threading.Thread(target=add, args=(told,), daemon=True).start()
    elif kind == "ping":
        send({"pong": {}})
    elif kind == "drain":
        break
