"""Where a node keeps large contents: in memory, on its disk, in an object store; and what moves them between these.

A content lies in one tier at a time. What is made goes into memory where its edge allows it and there is room, else to
the disk. Under pressure what has not been used for longest goes down: from memory to the disk, from the disk to the
object store where the cluster has one; what is in the object store comes back to the disk when somebody wants it.
"""
