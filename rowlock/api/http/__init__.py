"""Parts of every HTTP exchange: bodies, problems, headers, streams. Independent of the endpoints."""
