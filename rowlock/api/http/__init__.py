"""What every exchange has in common: bodies, pages, problems, the OpenAPI document."""
