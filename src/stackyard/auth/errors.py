"""Why access cannot be opened as the settings say. The server does not start then."""


class AccessUnusable(Exception):
    """A file that decides who gets in cannot be used; the text says which, why and what to do."""


class HtpasswdUnusable(AccessUnusable):
    """The file of users is missing or unreadable."""


class KeysUnusable(AccessUnusable):
    """A file of keys cannot be read or holds none."""
