"""Stackyard: a private OCI and Docker image registry."""
