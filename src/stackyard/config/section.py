"""The base of every section of the file, and the types its keys have."""

import ipaddress
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from stackyard.config import durations, sizes

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Section(BaseModel):
    """A map of the file. Frozen, and its errors never repeat what was written."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def option(default: Any = ..., meaning: str = "", **rules: Any) -> Any:
    """A key of a section: its default (none: required) and what it means, unit included."""
    return Field(default, description=meaning, **rules)


def section(kind: type[Section], meaning: str = "") -> Any:
    """A nested map whose every key has a default."""
    return Field(default_factory=kind, description=meaning)


def advise(info: ValidationInfo, advice: str) -> None:
    """Tell the operator what was changed on their behalf, without stopping the start."""
    if isinstance(info.context, list):
        info.context.append(advice)


def _span(value: object) -> object:
    return durations.parse(value.strip()) if isinstance(value, str) else value


def _long_span(value: object) -> object:
    return durations.parse_long(str(value).strip()) if isinstance(value, str | int) else value


def _size(value: object) -> object:
    return sizes.parse(value.strip()) if isinstance(value, str) else value


def _many(value: object) -> object:
    """One value where a list is meant is a list of one; it is what people write by environment."""
    return [value] if isinstance(value, str) else value


def _words(value: object) -> object:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value[:60]!r} is neither an address nor a range such as 10.0.0.0/8") from None


def _not_negative(span: timedelta) -> timedelta:
    if span < timedelta(0):
        raise ValueError("is negative")
    return span


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _each_many(value: object) -> object:
    return {name: _many(item) for name, item in value.items()} if isinstance(value, Mapping) else value


SPAN = BeforeValidator(_span)
SIZE = BeforeValidator(_size)
LOWER = BeforeValidator(_lower)
MANY = BeforeValidator(_many)
WORDS = BeforeValidator(_words)
EACH_MANY = BeforeValidator(_each_many)

Duration: TypeAlias = Annotated[timedelta, SPAN, AfterValidator(_not_negative)]
LongSpan: TypeAlias = Annotated[timedelta, BeforeValidator(_long_span), AfterValidator(_not_negative)]
Size: TypeAlias = Annotated[int, SIZE]
Texts: TypeAlias = Annotated[tuple[str, ...], MANY]
Networks: TypeAlias = Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], WORDS]
