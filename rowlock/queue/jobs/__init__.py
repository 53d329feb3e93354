"""What a job is: its states, options, identifiers and results. Pure: no I/O, no clock."""
