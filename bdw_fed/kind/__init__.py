"""Kubernetes clusters of kind on this machine, one for each cluster of a topology, and the federation on them.

    topology ─▶ environment (pure: which clusters, nodes, doors, data) ─▶ preparing ─▶ bringing (the steps) ─▶ removing
                                     ├─ clusters   kind: create, list, delete
                                     ├─ images     docker: build ours, load it and those of steps
                                     ├─ datasets   files onto the nodes
                                     ├─ deployment manifests, kubectl
                                     └─ network    partitions and slow links, inside the nodes

Each step looks at what is there and does what is missing, so `up` may be repeated and goes on where it failed. The
state file lists the clusters that were made here; no other cluster is ever touched.
"""
