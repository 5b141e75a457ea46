"""A service of lines that adds up numbers, several units at a time; one number it does not survive."""

import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["BDW_FED_SOCKET"])
lock = threading.Lock()


def send(message: dict[str, Any]) -> None:
    with lock:
        connection.sendall(json.dumps(message).encode() + b"\n")


def subtotal(task: dict[str, Any]) -> None:
    numbers = [int(line) for line in Path(task["inputs"]["rows"]).read_text().split()[1:]]
    if task["parameters"].get("deadly") in numbers:
        print("that number", file=sys.stderr, flush=True)
        os._exit(9)
    Path(task["outputs"]["sum"]).write_text(f"{sum(numbers)} {len(numbers)}\n")
    send({"log": {"id": task["id"], "text": f"added up {len(numbers)} numbers"}})
    send({"result": {"id": task["id"]}})


send({"hello": {"version": 1}})
send({"ready": {}})
for line in connection.makefile():
    [(kind, told)] = json.loads(line).items()
    if kind == "task":
        threading.Thread(target=subtotal, args=(told,), daemon=True).start()
    elif kind == "ping":
        send({"pong": {}})
    elif kind == "drain":
        break
