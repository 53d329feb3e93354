"""The duties that all workers share, one file each."""
