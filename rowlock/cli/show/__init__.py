"""Print data: tables, findings, output."""
