"""The conversation with bdw-fed in lines of JSON: connect, hello, ready, then a result for each task.

Leave it as it is, and write your work in `serve.py`. In another language this is what to write first.
"""

import json
import os
import socket
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Work = Callable[[dict[str, Any], threading.Event, Callable[[str], None]], None]


class Failed(Exception):
    """Raise it to fail a task in your own words."""


class Conversation:
    """One end of it. `work` is called in a thread for each task: the task, whether it is cancelled, and its log."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._connection = socket.socket(socket.AF_UNIX)
        self._sending = threading.Lock()
        self._cancelled: dict[str, threading.Event] = {}

    def connect(self) -> None:
        """Say that we are there. We have the time of `warm_up` until `serve`."""
        self._connection.connect(os.environ["BDW_FED_SOCKET"])
        self._say("hello", version=1)

    def serve(self) -> None:
        """Say that we are ready, and work until there is no more."""
        with ThreadPoolExecutor(int(os.environ["BDW_FED_SLOTS"])) as threads:
            self._say("ready")
            for line in self._connection.makefile(encoding="utf-8"):
                [(what, told)] = json.loads(line).items()
                if what == "task":
                    self._cancelled[told["id"]] = threading.Event()
                    threads.submit(self._do, told)
                elif what == "cancel" and told["id"] in self._cancelled:
                    self._cancelled[told["id"]].set()
                elif what == "ping":
                    self._say("pong")
                elif what == "drain":
                    return

    def _do(self, task: dict[str, Any]) -> None:
        name = task["id"]
        try:
            self._work(task, self._cancelled[name], lambda text: self._say("log", id=name, text=text))
        except Failed as failed:
            failure = {"message": str(failed)}
        except BaseException as error:
            failure = {"message": f"{type(error).__name__}: {error}", "detail": traceback.format_exc()}
        else:
            failure = {}
        del self._cancelled[name]
        self._say("result", id=name, **({"failure": failure} if failure else {}))

    def _say(self, what: str, **fields: object) -> None:
        with self._sending:
            self._connection.sendall(json.dumps({what: fields}).encode() + b"\n")
