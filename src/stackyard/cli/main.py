"""`stackyard`, and under the name `registry` the verbs of registry:2.

What a verb needs is imported when it runs, so that `--help` and completion answer at once.
"""

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from stackyard.cli import collection, history, migrating
from stackyard.cli.audit import audit
from stackyard.cli.collection import DeleteUntagged, DryRun, Quiet
from stackyard.cli.jobs import job
from stackyard.cli.manifests import manifest
from stackyard.cli.quotas import quota
from stackyard.cli.repositories import repo
from stackyard.cli.retention import retention
from stackyard.cli.rules import rule
from stackyard.cli.tags import tag

stackyard = typer.Typer(
    name="stackyard",
    help="A private OCI and Docker image registry that takes over from registry:2.",
    epilog="Example: stackyard serve config.yml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config = typer.Typer(
    help="Look at a configuration.",
    epilog="Example: stackyard config check config.yml",
    no_args_is_help=True,
    rich_markup_mode=None,
)
registry = typer.Typer(
    name="registry",
    help="The verbs of registry:2, for whatever calls them.",
    epilog="Example: registry serve /etc/docker/registry/config.yml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
stackyard.add_typer(config, name="config")
stackyard.add_typer(registry, name="registry")
stackyard.add_typer(repo, name="repo")
stackyard.add_typer(tag, name="tag")
stackyard.add_typer(manifest, name="manifest")
stackyard.add_typer(rule, name="rule")
stackyard.add_typer(retention, name="retention")
stackyard.add_typer(quota, name="quota")
stackyard.add_typer(job, name="job")
stackyard.add_typer(audit, name="audit")
collection.register(stackyard)
history.register()
migrating.register(stackyard)

ConfigFile = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads the annotation
    typer.Argument(
        metavar="CONFIG",
        show_default=False,
        help="Distribution's config file, of version 2 or 3. Without it: REGISTRY_CONFIGURATION_PATH, then "
        "/etc/docker/registry/config.yml, then /etc/distribution/config.yml, then defaults.",
    ),
]
"""The config file of a command."""


def main() -> None:
    """Run the command line; the program's name decides whose verbs it has."""
    name = Path(sys.argv[0]).name
    (registry if name == "registry" else stackyard)(prog_name=name)


def _print_version(asked: bool) -> None:
    if asked:
        from stackyard.cli.version import version

        typer.echo(version())
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", "-v", callback=_print_version, is_eager=True, help="Say which.")]


@stackyard.callback()
@registry.callback()
def _options(version: Version = False) -> None: ...


@stackyard.command("serve", epilog="Example: stackyard serve config.yml")
@registry.command("serve", epilog="Example: registry serve /etc/docker/registry/config.yml")
def serve(file: ConfigFile = None) -> None:
    """Serve the registry.

    SIGTERM lets running requests finish, then ends. SIGHUP reads certificate, passwords and keys again.
    """
    from stackyard.cli.serving import serve

    raise typer.Exit(serve(file))


@config.command("check", epilog="Example: stackyard config check config.yml")
def check(file: ConfigFile = None) -> None:
    """Say whether a server would start with this configuration, and what in it has no effect."""
    from stackyard.cli.checking import check

    raise typer.Exit(check(file))


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
OtherConfig = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--config", "-c", metavar="FILE", show_default=False, help="The config file, as for serve."),
]


@stackyard.command("import", epilog="Example: stackyard import --dry-run /var/lib/registry")
def import_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="docker-registry's volume, its rootdirectory; or an image: an OCI layout, a folder or a tar, or what "
            "docker save wrote.",
        ),
    ],
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="REPO:TAG", show_default=False, help="Of an image: what it is called from now on."),
    ] = None,
    image: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--image", metavar="NAME", show_default=False, help="Which image of several in the file."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Of a volume: only say what would be.")] = False,
    config: OtherConfig = None,
    as_json: AsJson = False,
) -> None:
    """Take over the volume of docker-registry, in place; or bring one image in from a file.

    A server takes over by itself when it starts on the volume. Nothing of docker-registry's is moved or changed. Used
    again, with the server stopped, it adds what is new.
    """
    from stackyard.cli import volumes

    if name is None:
        raise typer.Exit(volumes.import_volume(path, config, dry_run=dry_run, as_json=as_json))
    if dry_run:
        raise typer.BadParameter("--dry-run is for volumes")
    raise typer.Exit(volumes.import_image(path, name, config, choice=image, as_json=as_json))


@stackyard.command("recover", epilog="Example: stackyard recover /etc/docker/registry/config.yml")
def recover(file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Make a lost database anew from what is on the volume. Move a damaged one away first."""
    from stackyard.cli.volumes import recover

    raise typer.Exit(recover(file, as_json=as_json))


@stackyard.command("export", epilog="Example: stackyard export team/app:v1 app.tar")
def export(
    what: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            metavar="REPO:TAG|CONFIG", show_default=False, help="An image; with --distribution the config file."
        ),
    ] = None,
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(
            metavar="FILE", show_default=False, help="Where the image goes: a tar, if it ends in .tar, or a new folder."
        ),
    ] = None,
    distribution: Annotated[
        bool, typer.Option("--distribution", help="Bring docker-registry's files on the volume up to date.")
    ] = False,
    config: OtherConfig = None,
    as_json: AsJson = False,
) -> None:
    """Write an image to a file, for docker load and others; or make the volume ready for docker-registry.

    With --distribution it names what docker-registry cannot serve.
    """
    from stackyard.cli import volumes

    if distribution:
        if file is not None:
            raise typer.BadParameter("--distribution takes a config file and nothing else")
        raise typer.Exit(volumes.export_distribution(Path(what) if what else config, as_json=as_json))
    if what is None or file is None:
        raise typer.BadParameter("an image and a file are needed: stackyard export REPO:TAG FILE")
    raise typer.Exit(volumes.export_image(what, file, config, as_json=as_json))


@registry.command("garbage-collect", epilog="Example: registry garbage-collect --dry-run config.yml")
def garbage_collect(
    file: ConfigFile = None,
    dry_run: DryRun = False,
    delete_untagged: DeleteUntagged = False,
    quiet: Quiet = False,
) -> None:
    """Delete what nothing needs, also while the registry serves."""
    raise typer.Exit(collection.garbage_collect(file, dry_run=dry_run, delete_untagged=delete_untagged, quiet=quiet))


if __name__ == "__main__":
    main()
