"""Processes, sockets, TLS, and where the parts are put together."""
