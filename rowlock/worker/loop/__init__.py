"""The main loop: claim jobs, fill the slots, wait for work, stop."""
