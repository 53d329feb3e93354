"""Print data: tables, findings, the screen of `top`. It reads no database."""
