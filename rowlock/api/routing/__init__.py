"""The table of endpoints, the decoding of their requests, and the OpenAPI document generated from it."""
