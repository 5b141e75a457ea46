"""The etcd program, for the tests of our client."""

from tests.fixtures.etcd import empty_server, etcd, own_server, prefix

__all__ = ["empty_server", "etcd", "own_server", "prefix"]
