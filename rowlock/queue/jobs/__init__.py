"""What a job is: states, options, filters, identifiers, results. It does no I/O, and imports no other room."""
