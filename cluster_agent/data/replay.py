"""What a journal's segments come to when they are read again, oldest first: each unit's and result's last word."""

from __future__ import annotations

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.segment import Acked, Freed, Put, ResultKey, RunNamed, Segment, Told


class Replay:
    """What is left of units and results after the segments read so far."""

    def __init__(self) -> None:
        self.torn = False
        self.sequence = 0
        self._units: dict[UnitKey, Content] = {}
        self._results: dict[ResultKey, Segment] = {}

    def read(self, segment: Segment) -> None:
        """Go on with the next segment."""
        names: dict[int, tuple[str, str]] = {}
        for entries, contents, start in segment.frames():
            offset = 0
            for entry in entries:
                match entry:
                    case RunNamed():
                        names[entry.number] = (entry.namespace, entry.run)
                        segment.runs[entry.namespace, entry.run] = entry.number
                    case Put():
                        data = contents[offset : offset + entry.size]
                        content = Content(entry.digest, entry.size, data=data, segment=segment, offset=start + offset)
                        offset += entry.size
                        key = UnitKey(*names[entry.run], entry.unit)
                        self._drop_unit(key)
                        self._units[key] = content
                        segment.units[content] = key
                    case Freed():
                        for unit in entry.units:
                            self._drop_unit(UnitKey(*names[entry.run], unit))
                    case Told():
                        of = (*names[entry.run], entry.result.task, entry.result.attempt)
                        self._drop_result(of)
                        self._results[of] = segment
                        segment.results[of] = (entry.sequence, entry.result)
                        self.sequence = max(self.sequence, entry.sequence)
                    case Acked():
                        for task, attempt in entry.tasks:
                            self._drop_result((*names[entry.run], task, attempt))
        self.torn = segment.torn

    def _drop_unit(self, key: UnitKey) -> None:
        content = self._units.pop(key, None)
        if content is not None:
            assert content.segment is not None
            del content.segment.units[content]

    def _drop_result(self, key: ResultKey) -> None:
        segment = self._results.pop(key, None)
        if segment is not None:
            del segment.results[key]
