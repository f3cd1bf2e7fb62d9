"""``flask --app web nodes …``: which media nodes there are, and which of them take new rooms."""

from __future__ import annotations

from collections.abc import Callable

import click
from flask.cli import AppGroup
from sqlalchemy.orm import Session

from models.clock import utc_now
from models.errors import DomainError
from models.services import nodes
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


@nodes_group.command("drain")
@click.argument("name")
def drain(name: str) -> None:
    """Give NAME no new room, in its later lives neither; what it has goes on to its end."""
    _change(lambda tx: nodes.drain(tx, name, utc_now()))
    click.echo(f"{name} takes no new rooms.")


@nodes_group.command("undrain")
@click.argument("name")
def undrain(name: str) -> None:
    """Give NAME rooms again."""
    _change(lambda tx: nodes.undrain(tx, name))
    click.echo(f"{name} takes rooms again.")


@nodes_group.command("forget")
@click.argument("name")
def forget(name: str) -> None:
    """Strike NAME off the list: a node that is gone for good and has no rooms."""
    _change(lambda tx: nodes.forget(tx, name, utc_now()))
    click.echo(f"{name} is forgotten.")


def _change(change: Callable[[Session], None]) -> None:
    try:
        greenroom().database.run(change)
    except DomainError as error:
        raise click.ClickException(error.detail) from error
