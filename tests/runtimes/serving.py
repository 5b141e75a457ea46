"""A service for tests: each task is a script of words in its input, which says what is to become of it.

    copy              the words are its output
    wait PATH         until there is such a file
    hang              for ever, also when it is cancelled
    listen            until it is cancelled
    say TEXT          into its log
    print TEXT        to standard output
    fail KIND TEXT    a failure of that kind
    die               the process ends with 3
    lie               a result of a task that it was not given
    babble            a line that is none
    deaf              nothing is heard or said any more

Started as `serving.py [late|mute|old|early]`, in the protocol that its environment names.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POLL = 0.005


class Lines:
    """One JSON object a line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("r", encoding="utf-8")

    def heard(self) -> Iterator[dict[str, Any]]:
        for line in self._file:
            yield json.loads(line)

    def send(self, message: dict[str, Any]) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")


class Proto:
    """Messages behind their lengths."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")

    def heard(self) -> Iterator[dict[str, Any]]:
        from google.protobuf.json_format import MessageToDict  # a service of lines starts without it, in no time

        from bdw_fed.v1 import service_pb2 as pb

        while True:
            length = shift = 0
            while True:
                byte = self._file.read(1)
                if not byte:
                    return
                length |= (byte[0] & 0x7F) << shift
                shift += 7
                if byte[0] < 0x80:
                    break
            told = pb.ServiceTold.FromString(self._file.read(length))
            message = MessageToDict(told, preserving_proto_field_name=True)
            if "task" in message:
                task = message["task"]
                task["parameters"] = json.loads(task["parameters_json"])
                task["inputs"] = {
                    port: given["paths"] if given.get("many") else given["paths"][0]
                    for port, given in task.get("inputs", {}).items()
                }
            yield message

    def send(self, message: dict[str, Any]) -> None:
        from google.protobuf.json_format import ParseDict

        from bdw_fed.v1 import service_pb2 as pb

        body = ParseDict(message, pb.ServiceSays()).SerializeToString()
        length, head = len(body), bytearray()
        while length >= 0x80:
            head.append(length & 0x7F | 0x80)
            length >>= 7
        self._connection.sendall(bytes([*head, length]) + body)


class Service:
    """Tasks in threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._talk = Proto(connection) if os.environ["BDW_FED_PROTOCOL"] == "proto" else Lines(connection)
        self._lock = threading.Lock()
        self._cancelled: set[str] = set()
        self._deaf = False

    def send(self, message: dict[str, Any]) -> None:
        with self._lock:
            if not self._deaf:
                self._talk.send(message)

    def serve(self, manner: str) -> None:
        if manner == "mute":
            time.sleep(1000)
        if manner == "early":
            sys.exit("there is no model")
        self.send({"hello": {"version": 2 if manner == "old" else 1}})
        if manner == "late":
            time.sleep(1000)
        self.send({"ready": {}})
        for message in self._talk.heard():
            [(kind, told)] = message.items()
            if kind == "task":
                threading.Thread(target=self._do, args=(told,), daemon=True).start()
            elif kind == "cancel":
                self._cancelled.add(told["id"])
            elif kind == "ping":
                self.send({"pong": {}})
            elif kind == "drain":
                return

    def _do(self, task: dict[str, Any]) -> None:
        given = task["inputs"]["words"]
        words = " ".join(Path(path).read_text() for path in ([given] if isinstance(given, str) else given))
        verb, _, rest = words.partition(" ")
        failure: dict[str, str] = {}
        if verb == "wait":
            while not Path(rest).exists() and task["id"] not in self._cancelled:
                time.sleep(POLL)
        elif verb == "hang":
            time.sleep(1000)
        elif verb == "listen":
            while task["id"] not in self._cancelled:
                time.sleep(POLL)
        elif verb == "say":
            self.send({"log": {"id": task["id"], "text": rest}})
        elif verb == "print":
            print(rest, flush=True)
        elif verb == "fail":
            kind, _, message = rest.partition(" ")
            failure = {"kind": kind, "message": message, "detail": "more of it"}
        elif verb == "die":
            print("dying words", file=sys.stderr, flush=True)
            os._exit(3)
        elif verb == "lie":
            self.send({"result": {"id": "nobody's"}})
        elif verb == "babble":
            self._connection.sendall(b"\xff\xff\xff\xff\xff no message\n")
        elif verb == "deaf":
            self._deaf = True
            time.sleep(1000)
        else:
            answer = {"words": words, "parameters": task["parameters"], "task": task["task"], "pid": os.getpid()}
            Path(task["outputs"]["answer"]).write_text(json.dumps(answer))
        result: dict[str, Any] = {"id": task["id"]}
        self.send({"result": {**result, "failure": failure} if failure else result})


def main() -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ["BDW_FED_SOCKET"])
    Service(connection).serve(sys.argv[1] if sys.argv[1:] else "")


if __name__ == "__main__":
    main()
