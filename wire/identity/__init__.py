"""Identity: who a member of the federation is, how it proves it, and how TLS is set up from that."""

from wire.identity.credentials import (
    Changed,
    Credentials,
    channel_options,
    grpc_channel_credentials,
    grpc_open_credentials,
    grpc_server_credentials,
    join_server_options,
    reload,
    server_options,
    ssl_client_context,
    ssl_server_context,
)
from wire.identity.peers import UnknownPeerError, identity_of, identity_of_tls, refuse, require
from wire.identity.roles import Identity, Role, member_named, server_name

__all__ = [
    "Changed",
    "Credentials",
    "Identity",
    "Role",
    "UnknownPeerError",
    "channel_options",
    "grpc_channel_credentials",
    "grpc_open_credentials",
    "grpc_server_credentials",
    "identity_of",
    "identity_of_tls",
    "join_server_options",
    "member_named",
    "refuse",
    "reload",
    "require",
    "server_name",
    "server_options",
    "ssl_client_context",
    "ssl_server_context",
]
