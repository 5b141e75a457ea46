"""Space: what tasks take of disks and quotas, what waits for it, and which run can't go on without."""
