"""The etcd program, for the tests of our client."""

from tests.fixtures.etcd import etcd, etcd_server, own_server, prefix

__all__ = ["etcd", "etcd_server", "own_server", "prefix"]
