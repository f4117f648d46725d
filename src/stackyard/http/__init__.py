"""The registry's endpoints over HTTP."""
