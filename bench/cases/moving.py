"""Importing a volume, and quotas: what they cost those who push."""

from bench import importing, quotas
from bench.cases.case import Case
from bench.field import Field
from bench.importing import Measured
from bench.results import AtLeast, AtMost, Measurement
from bench.servers import Kind
from bench.wire import Unexpected

_OURS = str(Kind.STACKYARD)


def _imported(field: Field) -> Measured:
    """One import; both cases tell of it."""
    if field.imported is None:
        field.imported = importing.measure(field.profile.imported, field.folder / "import")
    if field.imported.failed:
        raise Unexpected(field.imported.failed[0])
    return field.imported


async def _import(field: Field) -> dict[str, Measurement]:
    return {_OURS: Measurement([_imported(field).rate])}


async def _push_beside(field: Field) -> dict[str, Measurement]:
    return {_OURS: Measurement([_imported(field).ratio])}


async def _count(field: Field) -> dict[str, Measurement]:
    folder = field.folder / "quotas"
    ratios = await quotas.measure(folder, pairs=field.profile.pairs, pushes=field.profile.quota_pushes, quotas=1)
    return {_OURS: Measurement([100 * (ratio - 1) for ratio in ratios])}


CASES = (
    Case(
        "import", "Import of a volume of 100 000 manifests", "manifests/s", "", (AtLeast(1000, "manifests/s"),), _import
    ),
    Case("import-push", "p99 of a push beside it, in that of one alone", "x", "", (AtMost(3, "x"),), _push_beside),
    Case("quota-push", "CPU that a quota adds to a push of a small image", "%", "", (AtMost(5, "%"),), _count),
)
