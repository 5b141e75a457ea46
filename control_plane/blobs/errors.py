"""What can go wrong with blobs."""


class BlobError(Exception):
    """Any of them."""


class NoSuchBlob(BlobError):
    """It is not here."""


class WrongDigest(BlobError):
    """The content that came is not what its digest says."""


class CorruptBlob(BlobError):
    """The content kept is not what its digest says: the disk has changed it."""


class TooLarge(BlobError):
    """The content is larger than the store takes."""
