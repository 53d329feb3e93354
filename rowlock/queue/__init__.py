"""The durable queue over asyncpg. A room for each concern; it knows no worker, no HTTP, and no command line."""
