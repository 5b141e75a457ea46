"""One member's certificate, key and authority as files, and the TLS settings made of them.

There is one setting for all connections: TLS, both ends show a certificate of the federation's authority, and the
client checks that the server is the very identity that it meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wire.identity.roles import Identity, server_name

if TYPE_CHECKING:  # a program that asks the hub one thing needs no ssl, and one that serves files no grpc
    import ssl

    import grpc

MESSAGE_BYTES = 16 << 20
_KEEPALIVE_MS = 10_000
_KEEPALIVE_TIMEOUT_MS = 5_000


@dataclass(frozen=True)
class Credentials:
    """Paths of PEM files: the certificate, its key (mode 0600) and the authority's certificate."""

    certificate: Path
    key: Path
    ca: Path

    @classmethod
    def at(cls, directory: Path) -> Credentials:
        """The files' places in `directory`, there or not."""
        return cls(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")

    @classmethod
    def load(cls, directory: Path) -> Credentials:
        """The credentials in `directory`. FileNotFoundError names the first file that is missing."""
        credentials = cls.at(directory)
        for path in (credentials.certificate, credentials.key, credentials.ca):
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file (credentials are cert.pem, key.pem and ca.pem)")
        return credentials


def grpc_server_credentials(credentials: Credentials) -> grpc.ServerCredentials:
    """For a gRPC server that demands a client certificate."""
    import grpc

    return grpc.ssl_server_credentials(
        [(credentials.key.read_bytes(), credentials.certificate.read_bytes())],
        root_certificates=credentials.ca.read_bytes(),
        require_client_auth=True,
    )


def grpc_channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    """For a gRPC channel that shows our certificate."""
    import grpc

    return grpc.ssl_channel_credentials(
        root_certificates=credentials.ca.read_bytes(),
        private_key=credentials.key.read_bytes(),
        certificate_chain=credentials.certificate.read_bytes(),
    )


def channel_options(server: Identity) -> list[tuple[str, Any]]:
    """A channel's options: the server must be `server`; a dead link is noticed; reconnecting is quick."""
    return [
        ("grpc.ssl_target_name_override", server_name(server)),
        ("grpc.default_authority", server_name(server)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # in truth: how long one attempt to connect may take
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def server_options() -> list[tuple[str, Any]]:
    """A server's options: the mirror of `channel_options`. A port is never shared with another server."""
    return [
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _KEEPALIVE_MS // 2),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.so_reuseport", 0),
    ]


def ssl_server_context(credentials: Credentials) -> ssl.SSLContext:
    """For servers other than gRPC's; demands a client certificate."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(credentials.certificate, credentials.key)
    context.load_verify_locations(credentials.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def ssl_client_context(credentials: Credentials) -> ssl.SSLContext:
    """For clients other than gRPC's; pass `server_hostname=server_name(identity)` when connecting."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(credentials.certificate, credentials.key)
    context.load_verify_locations(credentials.ca)
    return context
