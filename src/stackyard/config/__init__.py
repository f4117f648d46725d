"""Distribution's config file and environment, and our own settings."""
