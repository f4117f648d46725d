"""`log`: what is written, how much of it, and in which form."""

from typing import Annotated, Literal

from stackyard.config.section import LOWER, Section, option, section


class AccessLog(Section):
    """`log.accesslog`."""

    disabled: bool = option(False, "Whether the one line per request is left out.")


class Log(Section):
    """`log`."""

    level: Annotated[Literal["error", "warn", "info", "debug"], LOWER] = option(
        "info", "The least important messages still written. `loglevel` at the top is the old name."
    )
    formatter: Annotated[Literal["text", "json", "logstash"], LOWER] = option("text", "The form of each line.")
    fields: dict[str, str] = option({}, "Names and values added to each line.")
    accesslog: AccessLog = section(AccessLog)
