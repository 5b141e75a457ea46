"""The places beside disks that the tests' kind environment has: a Redis on edge1, and a bucket that cloud1 shares.

Their servers are pods in a namespace of their own; nodes know of them what the topology says, and the credentials, as
files that become Secrets. The Redis speaks TLS with a certificate that only its own authority file vouches for.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HERE = Path(__file__).parent / "stores"
IMAGE = "bdw-fed-test/stores:1"
SPACE = "stores"
BUCKET = "federation"
PREFIX = "kind"  # of all objects in the bucket
REDIS = ("edge1", "redis")
S3 = ("cloud1", "s3")
Kubectl = Callable[..., str]
_HOST = f"redis.{SPACE}"
_GIVEN = {"redis": ("password", "ca.pem"), "s3": ("access-key-id", "secret-access-key")}
_OBJECTS = {
    "bucket": BUCKET,
    "endpoint": "http://cloud1-control-plane:30900",
    "prefix": PREFIX,
    "plain": True,
    "credentials": "s3",
}
STORAGE: dict[str, dict[str, Any]] = {
    "edge1": {"redis": {"url": f"rediss://{_HOST}:6379", "credentials": "redis"}, "objects": _OBJECTS},
    "cloud1": {"objects": _OBJECTS},
}


def build() -> str:
    """The image of both servers; what went wrong, empty if nothing did."""
    words = ["docker", "build", "--quiet", "--tag", IMAGE, str(HERE)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"the image {IMAGE} can't be built here:\n{done.stderr}" if done.returncode else ""


def credentials(directory: Path) -> Path:
    """Those of both, as nodes are given them, in NAME/FILE below a directory; made if they are not there."""
    if directory.exists():
        return directory
    own, certificate, key = directory / "servers", *_certificate()
    for place in (*(directory / name for name in _GIVEN), own):
        place.mkdir(parents=True)
    (own / "cert.pem").write_bytes(certificate)
    (own / "key.pem").write_bytes(key)
    (directory / "redis" / "ca.pem").write_bytes(certificate)
    for name in ("redis/password", "s3/access-key-id", "s3/secret-access-key"):
        (directory / name).write_text(secrets.token_hex(16))
    return directory


def start(kubectl: Kubectl, ask: Callable[..., object], directory: Path) -> None:
    """Have both servers on their clusters, with the credentials in a directory, and wait until they answer."""
    files = {"redis": [f"servers/{name}.pem" for name in ("cert", "key")], "s3": []}
    for cluster, name in (REDIS, S3):
        ask(cluster, "create", "namespace", SPACE)  # one that was there already will do
        given = [directory / name / file for file in _GIVEN[name]] + [directory / file for file in files[name]]
        words = [f"--from-file={file.name}={file}" for file in given]
        ask(cluster, "create", "secret", "generic", name, *words, namespace=SPACE)
        kubectl(cluster, "apply", "-f", str(HERE / f"{name}.yaml"), namespace=SPACE)
    await_answers(kubectl)


def await_answers(kubectl: Kubectl) -> None:
    """Until both servers answer."""
    for cluster, name in (REDIS, S3):
        kubectl(cluster, "rollout", "status", f"deployment/{name}", "--timeout=180s", namespace=SPACE)


def redis_told(kubectl: Kubectl, section: str) -> dict[str, str]:
    """What the Redis says of itself in a section of INFO."""
    ask = 'redis-cli --tls --cacert /etc/redis/ca.pem --no-auth-warning -a "$(cat /etc/redis/password)" INFO'
    said = kubectl(REDIS[0], "exec", "deployment/redis", "--", "sh", "-c", f"{ask} {section}", namespace=SPACE)
    lines = (line.strip().partition(":") for line in said.splitlines())
    return {name: value for name, colon, value in lines if colon}


def calls(told: dict[str, str], command: str) -> int:
    """How often a command was given, of INFO commandstats."""
    figures = dict(each.split("=") for each in told.get(f"cmdstat_{command}", "calls=0").split(","))
    return int(figures["calls"])


def objects(kubectl: Kubectl, below: str) -> list[str]:
    """The names of the objects below a directory of the bucket, as they lie on the S3 server's disk."""
    script = f"cd /data/{BUCKET} && find {PREFIX}/{below} -type f 2>/dev/null || true"
    return kubectl(S3[0], "exec", "deployment/s3", "--", "sh", "-c", script, namespace=SPACE).split()


def requests(kubectl: Kubectl, method: str, below: str) -> list[str]:
    """The lines of the S3 server's log of one method on objects below a directory of the bucket."""
    said = kubectl(S3[0], "logs", "deployment/s3", namespace=SPACE)
    return [line for line in said.splitlines() if f"{method} /{BUCKET}/{PREFIX}/{below}" in line]


def _certificate() -> tuple[bytes, bytes]:
    """A certificate of the Redis that is its own authority, and its key."""
    key, today = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _HOST)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(hours=1))
        .not_valid_after(today + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem), key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
