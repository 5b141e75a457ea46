"""`bdw-fed perf pipeline` with all of its tiers: a Redis and an S3 server are started for it, and ended after it.

    python -m benchmarks.storage [OPTIONS OF bdw-fed perf]

They are those of the tests: a real Redis, and an S3 server that is written in Python and keeps files in a directory.
All is on this machine and shares its processors, so the rows say what the federation and these servers make of them
together; of another Redis or bucket, `--topology` tells.
"""

from __future__ import annotations

import json
import sys

from bdw_fed.cli.__main__ import run
from bdw_fed.perf.federation import scratch
from tests.fixtures.shared import BUCKET, redis_in, s3_in

_TOPOLOGY = """\
kind: Topology
metadata: {{name: storage}}
spec:
  zones: [{{name: here, tier: cloud}}]
  clusters: [{{name: one, zone: here, nodes: [{{name: n1}}], storage: {storage}}}]
"""


def main(options: list[str]) -> int:
    """Start the servers, measure, end them."""
    with scratch() as place:
        redis, bucket = redis_in(place), s3_in(place)
        storage = {
            "redis": {"url": f"redis://127.0.0.1:{redis.port}"},
            "objects": {
                "bucket": BUCKET,
                "endpoint": bucket.endpoint,
                "plain": True,
                "credentials": bucket.credentials.name,
            },
        }
        topology = place / "topology.yaml"
        topology.write_text(_TOPOLOGY.format(storage=json.dumps(storage)))
        named = [
            "--topology",
            str(topology),
            "--cluster",
            "one",
            "--storage-credentials",
            str(bucket.credentials.parent),
        ]
        try:
            redis.start()
            bucket.start()
            return run(["perf", "pipeline", *named, *options])
        finally:
            redis.stop()
            bucket.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
