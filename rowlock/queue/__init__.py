"""The durable queue: vocabulary, life cycle, enqueue, claim, finish and lease, over asyncpg alone."""
