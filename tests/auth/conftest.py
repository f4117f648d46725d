"""Hypothesis measures no time here: bcrypt and key generation on a busy machine would fail its default deadline."""

from hypothesis import settings

settings.register_profile("auth", deadline=None)
settings.load_profile("auth")
