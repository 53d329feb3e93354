"""PostgreSQL: connections, transactions, statements and errors. Knows no job."""
