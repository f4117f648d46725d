"""How far an answer came."""


class Delivery:
    """What became of an answer, for the access log: `scope["extensions"]["stackyard.delivery"]`."""

    __slots__ = ("cut_off", "sent", "too_slow")

    def __init__(self) -> None:
        self.sent = 0
        """Bytes of the body handed to the client's connection."""
        self.cut_off = False
        """The client left before the answer was complete."""
        self.too_slow = False
        """The client was let go because it moved too few bytes."""
