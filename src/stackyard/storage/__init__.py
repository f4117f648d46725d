"""Bytes by location."""
