"""One run of a worker: claim, fill the slots, wait, stop."""
