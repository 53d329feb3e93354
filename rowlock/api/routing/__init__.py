"""The table of endpoints: what each takes and answers, and the OpenAPI document that says so."""
