"""The background tasks of a small web service: reports and e-mails, on PostgreSQL alone."""
