"""A whole federation on this machine: etcd, the hub, an agent for each cluster, a daemon for each node.

`up` (bdw_fed.embedded.control) lays out the processes from a topology (layout), gives each its certificate
(certificates), and starts the supervisor. The supervisor imports everything once, forks all processes from that image,
starts again what dies, and ends all when it is told to, or dies itself (supervisor, children, linux).
"""
