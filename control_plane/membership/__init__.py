"""Who is a member of the federation: tokens to join with, the certificates of clusters and nodes, and revocations.

    operator ─▶ token ─▶ a cluster's key is presented with it ─▶ (accepted) ─▶ certificate ─▶ renewed by its holder
    operator ─▶ revocation ─▶ sessions end, all agents are told; the cluster may join again with a new token

What a token allows is decided in `tokens`, which is pure; `joining` keeps them in the store and certifies, `members`
keeps the clusters' generations, `service` is the door for those who have no certificate yet. `keeping` sees to the
hub's own certificate, and to those of who can't ask.
"""
