"""``flask --app web nodes …``: which media nodes there are, and which of them take new rooms.

What is changed is recorded among the admins' acts, as it is when it is done on their page; by the name that
whoever is at the shell has there.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable

import click
from flask.cli import AppGroup
from sqlalchemy.orm import Session

from models.clock import utc_now
from models.errors import DomainError
from models.services import nodes, operations
from web.context import greenroom

nodes_group = AppGroup("nodes", help="Media nodes.")


@nodes_group.command("list")
def list_nodes() -> None:
    """Say of each media node its state, its rooms, and how many participants it has of how many it takes."""
    with greenroom().database.reading() as tx:
        found = nodes.nodes(tx, utc_now())
    for node in found:
        draining = " draining" if node.draining and node.state != "draining" else ""
        click.echo(f"{node.node_id} {node.state}{draining} {node.rooms} rooms {node.load}/{node.capacity}")
    if not found:
        click.echo("No media node has ever reported.")


_reason = click.option("--reason", default="At the shell", show_default=True, help="Why, for the record of acts.")


@nodes_group.command("drain")
@click.argument("name")
@_reason
def drain(name: str, reason: str) -> None:
    """Give NAME no new room, in its later lives neither; what it has goes on to its end."""
    _change(lambda tx: nodes.drain(tx, name, utc_now()), "node_drained", name, reason)
    click.echo(f"{name} takes no new rooms.")


@nodes_group.command("undrain")
@click.argument("name")
@_reason
def undrain(name: str, reason: str) -> None:
    """Give NAME rooms again."""
    _change(lambda tx: nodes.undrain(tx, name), "node_undrained", name, reason)
    click.echo(f"{name} takes rooms again.")


@nodes_group.command("forget")
@click.argument("name")
@_reason
def forget(name: str, reason: str) -> None:
    """Strike NAME off the list: a node that is gone for good and has no rooms."""
    _change(lambda tx: nodes.forget(tx, name, utc_now()), "node_forgotten", name, reason)
    click.echo(f"{name} is forgotten.")


def _change(change: Callable[[Session], None], act: str, name: str, reason: str) -> None:
    def recorded(tx: Session) -> None:
        change(tx)
        operations.record_at_shell(tx, _operator(), act, name, reason, now=utc_now())

    try:
        greenroom().database.run(recorded)
    except DomainError as error:
        raise click.ClickException(error.detail) from error


def _operator() -> str:
    """Who is at the shell, behind sudo too; a container's user may have no name."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
