"""One member's certificate, key and authority as files, and the TLS settings made of them.

There is one setting for all connections: TLS, both ends show a certificate of the federation's authority, and the
client checks that the server is the very identity that it meant. The one exception is the door to join at, where a
newcomer has no certificate yet.

Certificates are renewed while their holders run. A gRPC server reads changed files at the next handshake, a channel
when it is made, a TLS context when it is told to (`reload`); connections that are open stay.
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
NEXT_KEY = "next-key.pem"  # waits for its certificate, see `requests`
_JOIN_BYTES = 64 << 10
_KEEPALIVE_MS = 10_000
_KEEPALIVE_TIMEOUT_MS = 5_000
_HANDSHAKE_MS = 10_000


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
        if (directory / NEXT_KEY).exists():
            from wire.identity.requests import settle

            settle(directory)
        for path in (credentials.certificate, credentials.key, credentials.ca):
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file (credentials are cert.pem, key.pem and ca.pem)")
        return credentials


def grpc_server_credentials(credentials: Credentials) -> grpc.ServerCredentials:
    """For a gRPC server that demands a client certificate."""
    return _server_credentials(credentials, require_client_authentication=True)


def grpc_open_credentials(credentials: Credentials) -> grpc.ServerCredentials:
    """For a gRPC server whose clients show no certificate: each of its calls looks for another proof."""
    return _server_credentials(credentials, require_client_authentication=False)


def _server_credentials(credentials: Credentials, *, require_client_authentication: bool) -> grpc.ServerCredentials:
    import grpc

    changed = Changed(credentials)

    def configuration() -> grpc.ServerCertificateConfiguration:
        pair = (credentials.key.read_bytes(), credentials.certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=credentials.ca.read_bytes())

    def newer() -> grpc.ServerCertificateConfiguration | None:
        """Asked at each handshake, in a thread of gRPC's own; None leaves things as they are."""
        return configuration() if changed() else None

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        newer,  # type: ignore[arg-type] # None is allowed, says the documentation
        require_client_authentication=require_client_authentication,
    )


class Changed:
    """Whether the files are others than when this was last asked, and belong together."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._seen = self._stamp()

    def __call__(self) -> bool:
        try:
            stamp = self._stamp()
            if stamp == self._seen or not belong_together(self._credentials):
                return False  # in the middle of a renewal: at the next handshake
        except (OSError, ValueError):
            return False
        self._seen = stamp
        return True

    def _stamp(self) -> list[tuple[int, int]]:
        files = (self._credentials.certificate, self._credentials.key, self._credentials.ca)
        return [(found.st_ino, found.st_mtime_ns) for found in map(Path.stat, files)]


def belong_together(credentials: Credentials) -> bool:
    """Whether the key in the files is that of the certificate. OSError, ValueError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(credentials.key.read_bytes(), password=None)
    return x509.load_pem_x509_certificate(credentials.certificate.read_bytes()).public_key() == key.public_key()


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
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),  # who opens a connection and says nothing is let go
        ("grpc.so_reuseport", 0),
    ]


def join_server_options() -> list[tuple[str, Any]]:
    """Of a server that strangers may knock at: small messages, and no connection for long."""
    return [
        ("grpc.max_receive_message_length", _JOIN_BYTES),
        ("grpc.max_concurrent_streams", 4),
        ("grpc.max_connection_age_ms", 30_000),
        ("grpc.max_connection_age_grace_ms", 10_000),
        ("grpc.server_handshake_timeout_ms", 10_000),
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


def reload(context: ssl.SSLContext, credentials: Credentials) -> None:
    """Let connections that begin from now on show the certificate that is in the files now."""
    context.load_cert_chain(credentials.certificate, credentials.key)
