"""The promises, a function each: it gets what is known of one job (or of all), and says what contradicts it."""
