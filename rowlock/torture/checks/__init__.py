"""The promises, a function each: it gets the evidence on one job (or on all), and yields the contradictions."""
