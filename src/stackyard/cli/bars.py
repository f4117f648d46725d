"""Progress bars of work in this process, on standard error."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stackyard.server.volumes import Progress as Imported


class ImportBar:
    """How far an import is; entered, it is a function to be told."""

    def __init__(self) -> None:
        """Shows nothing yet."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("finding repositories", total=None)

    def __enter__(self) -> "ImportBar":
        """Show it."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave its last state on the terminal."""
        self._progress.stop()

    def __call__(self, progress: Imported) -> None:
        """Show how far it is now."""
        if progress.state != "listing":
            self._progress.update(
                self._task,
                description=f"{progress.manifests} manifests, {progress.tags} tags",
                completed=progress.repositories - progress.waiting,
                total=progress.repositories,
            )
