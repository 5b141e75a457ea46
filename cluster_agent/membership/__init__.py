"""How a cluster and its nodes come by their certificates, keep them, and know which of others' are revoked.

    join: key, token ─▶ hub (a node: its agent ─▶ hub) ─▶ certificate
    renewal: at two thirds of its life, with the certificate that is about to be replaced, for a new key
    revoked: told by the hub, by peers, to peers and nodes

Keys are made where they are used and stay there.
"""
