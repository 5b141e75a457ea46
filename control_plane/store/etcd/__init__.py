"""A thin client of etcd on grpc.aio, and the etcd program itself for a hub that has none.

`client` owns the connections and decides what may be tried again; `kv`, `watch`, `lease` and `lock` each put one
of etcd's nouns on top of it; `core` holds what can be decided without a socket: until when a lease is surely
ours, and where a watch has to go on. `embedded` starts the program. See docs/decisions/0006-etcd-client-of-our-own.md.
"""
