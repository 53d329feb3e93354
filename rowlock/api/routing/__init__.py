"""The table of endpoints, the reading of their requests, and the OpenAPI document made of it."""
