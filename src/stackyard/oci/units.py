"""Amounts of bytes as people read them."""

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def human(size: int, *, like: int = 0) -> str:
    """`size` bytes with three digits at least: "49.8 GB", "300 MB", "1024 B".

    In binary units when `like`, such as the limit that it is compared with, is a whole number of them.
    """
    binary = like % 1024 == 0 and like % 1000 != 0
    base, units = (1024, _BINARY) if binary else (1000, _DECIMAL)
    amount, sign = float(abs(size)), "-" if size < 0 else ""
    for unit in units:
        text = f"{amount:.3g}" if amount < 100 else f"{amount:.0f}"
        if float(text) < base or unit == units[-1]:
            break
        amount /= base
    return f"{sign}{text} {unit}"
