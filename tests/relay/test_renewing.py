"""A relay shows the newest certificate to whoever connects, and drops nobody for it."""

from __future__ import annotations

import asyncio
import ssl

from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate

from tests.relay.relays import Federation
from wire.identity import Credentials, Identity, Role, server_name, ssl_client_context

R1 = Identity(Role.RELAY, "r1")


async def shown(address: str, visitor: Credentials) -> int:
    """The serial number of the certificate that a relay shows to whoever connects now."""
    host, _, port = address.rpartition(":")
    context = ssl_client_context(visitor)
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=server_name(R1))
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True)
    writer.transport.abort()
    assert certificate is not None
    return load_der_x509_certificate(certificate).serial_number


def in_files(credentials: Credentials) -> int:
    return load_pem_x509_certificate(credentials.certificate.read_bytes()).serial_number


async def test_a_certificate_that_was_put_into_the_files_is_shown_and_who_is_there_stays(members: Federation) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    visitor = members.credentials(Role.NODE, "edge3/n1")
    before = await shown(relay.address, visitor)
    opened = relay.now("standing")
    renewed = members.credentials(Role.RELAY, "r1")  # into the same directory
    assert in_files(renewed) != before
    assert await shown(relay.address, visitor) == in_files(renewed)
    assert await a.ask(b.identity, b"hello") == b"hello"
    assert relay.now("standing") == opened


async def test_in_the_middle_of_a_renewal_the_certificate_of_before_is_shown(members: Federation) -> None:
    relay = await members.relay()
    visitor = members.credentials(Role.NODE, "edge3/n1")
    before = await shown(relay.address, visitor)
    files = Credentials.at(members.directory / Role.RELAY / "r1-0")
    key = files.key.read_bytes()
    renewed = members.credentials(Role.RELAY, "r1")
    whole = renewed.key.read_bytes()
    renewed.key.write_bytes(key)  # the new certificate is there, its key not yet
    assert await shown(relay.address, visitor) == before
    renewed.key.write_bytes(whole)
    assert await shown(relay.address, visitor) == in_files(renewed)
