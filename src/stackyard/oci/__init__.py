"""The specifications as values: names, digests, manifests, endpoints, errors. Pure, no I/O."""
