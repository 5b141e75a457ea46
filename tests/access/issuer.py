"""An OpenID Connect issuer on loopback: its keys over HTTPS, and tokens that it signs."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm

CLIENT = "bdw-fed-tests"


class LocalIssuer:
    """See the module. `up` False: it answers 503."""

    def __init__(self, ca: Path) -> None:
        self.ca = ca
        self.url = ""
        self.up = True
        self.calls_itself = ""
        self.fetches = 0
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.rotate("first")

    def rotate(self, kid: str) -> None:
        """Have one key, of this id."""
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1())}

    def token(self, subject: str = "ann", *, key: Any = None, headers: Any = None, **claims: object) -> str:
        """A token that is good, but for the claims given; None leaves one out."""
        (kid,) = self.keys
        now = time.time()
        said = {"iss": self.url, "aud": CLIENT, "sub": subject, "iat": now, "exp": now + 600, **claims}
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(kept, key or self.keys[kid], algorithm="ES256", headers={"kid": kid, **(headers or {})})

    async def configuration(self, _: web.Request) -> web.Response:
        if not self.up:
            return web.Response(status=503)
        self.fetches += 1
        return web.json_response({"issuer": self.calls_itself or self.url, "jwks_uri": f"{self.url}/keys"})

    async def jwks(self, _: web.Request) -> web.Response:
        keys = []
        for kid, key in self.keys.items():
            keys.append({**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"})
        return web.json_response({"keys": keys})


@asynccontextmanager
async def local_issuer(directory: Path) -> AsyncIterator[LocalIssuer]:
    """An issuer that listens."""
    issuer = LocalIssuer(directory / "issuer-ca.pem")
    context = _certified(directory, issuer.ca)
    application = web.Application()
    application.router.add_get("/.well-known/openid-configuration", issuer.configuration)
    application.router.add_get("/keys", issuer.jwks)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        port = runner.addresses[0][1]
        issuer.url = f"https://127.0.0.1:{port}"
        yield issuer
    finally:
        await runner.cleanup()


def _certified(directory: Path, ca: Path) -> ssl.SSLContext:
    """TLS with a certificate that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an issuer")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = directory / "issuer-key.pem"
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, secret)
    return context
