"""Administration over HTTP: `/api/v1`."""
