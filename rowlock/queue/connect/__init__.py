"""PostgreSQL: connections, transactions, statements, errors. It knows no job."""
