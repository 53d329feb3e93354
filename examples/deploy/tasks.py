"""The application that the examples of this folder deploy."""

from __future__ import annotations

from rowlock import Rowlock

app = Rowlock()


@app.task(queue="email")
async def send_email(recipient: str, subject: str) -> str:
    """Pretend."""
    return f"{recipient}: {subject}"
