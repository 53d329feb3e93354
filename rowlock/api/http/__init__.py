"""What every HTTP exchange needs: bodies, problems, headers, streams. It knows no endpoint."""
