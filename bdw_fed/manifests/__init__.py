"""What to apply on a Kubernetes cluster so that it is one of the federation: overlays over those of deploy/kubernetes.

    installation directory: ca/, etcd-ca/        the authorities; ca's key leaves it for a hub that clusters join at
                            hub/, clusters/NAME/ an overlay each: kustomization.yaml and the credentials of its Secrets

An overlay is made as data (`overlays`); then its credentials are issued, it is written, and kubectl renders or applies
it (`installation`). So a hand-written overlay and ours mean the same bases.
"""
