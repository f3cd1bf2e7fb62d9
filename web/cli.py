"""``flask --app web …``: what an operator does from a shell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from flask import Flask
from flask.cli import AppGroup
from sqlalchemy import select

import migrations
from models import audit, receipt_check
from models.clock import utc_now
from models.errors import DomainError
from models.people import PersonRow
from models.receipt_keys import signing_key
from models.services import accounts, receipt_chain, recording_work
from web import sign_in
from web.api import recordings, reference
from web.cli_nodes import nodes_group
from web.context import Greenroom, greenroom

database_group = AppGroup("db", help="The database.")
accounts_group = AppGroup("accounts", help="People.")
ledger_group = AppGroup("ledger", help="The books.")
receipts_group = AppGroup("receipts", help="Signed receipts.")
recordings_group = AppGroup("recordings", help="Films of private streams.")
integrators_group = AppGroup("integrators", help="Programs of others.")


def init_app(app: Flask) -> None:
    """Register the commands."""
    groups = (
        database_group,
        accounts_group,
        ledger_group,
        receipts_group,
        recordings_group,
        integrators_group,
        nodes_group,
    )
    for group in groups:
        app.cli.add_command(group)
    app.cli.add_command(write_docs)


@database_group.command("upgrade")
def upgrade() -> None:
    """Bring the database to the newest schema."""
    migrations.upgrade(_house().settings.database_url)
    click.echo("The database is up to date.")


@accounts_group.command("create")
@click.option("--email", required=True)
@click.option("--handle", required=True)
@click.option("--name", "display_name", required=True)
@click.option("--role", type=click.Choice(accounts.ROLES), default="fan")
@click.password_option(help="Asked for when left out, so that no shell history has it.")
def create_account(email: str, handle: str, display_name: str, role: str, password: str) -> None:
    """Create a person; admins are made here and nowhere else."""
    database = _house().database
    try:
        hashed = sign_in.new_hash(password, "password")
        person = database.run(
            lambda tx: accounts.create_person(
                tx,
                email=email,
                handle=handle,
                display_name=display_name,
                password_hash=hashed,
                roles=(role,),
                now=utc_now(),
            )
        )
    except DomainError as error:
        raise click.ClickException(error.detail) from error
    click.echo(f"{person.user_id} {person.handle} {' '.join(person.roles)}")


@ledger_group.command("audit")
def audit_ledger() -> None:
    """Check the books by arithmetic; exits 1 when something is off. Safe on a live system."""
    with _house().database.reading() as tx:
        report = audit.audit(tx)
    for problem in report.problems:
        click.echo(f"PROBLEM {problem}")
    verdict = "clean" if report.ok else "NOT CLEAN"
    click.echo(f"{report.accounts} accounts, {report.transfers} transfers: {verdict}")
    if not report.ok:
        raise click.exceptions.Exit(1)


@receipts_group.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--keys", type=click.Path(path_type=Path), help="The site's public keys; else a file beside FILE.")
def verify_receipts(file: Path, keys: Path | None) -> None:
    """Check a receipt, or a creator's export, offline; exits 1 when it does not hold, 2 when it cannot tell.

    Opens no database and no connection. Without settings: python -m models.receipt_check.
    """
    code, said = receipt_check.run(file, keys)
    click.echo("\n".join(said))
    if code:
        raise click.exceptions.Exit(code)


@receipts_group.command("export")
@click.argument("handle")
def export_receipts(handle: str) -> None:
    """Write a creator's whole chain to standard output, one signed document a line."""
    house = _house()
    with house.database.reading() as tx:
        creator_id = tx.scalar(select(PersonRow.id).where(PersonRow.handle == handle))
        if creator_id is None:
            raise click.ClickException("There is nobody of that handle.")
        for line in receipt_chain.export(tx, creator_id, signing_key(house.settings), utc_now()):
            click.echo(line, nl=False)


@receipts_group.command("keys")
def write_keys() -> None:
    """Write the public keys, present and past, to standard output: the file that ``verify`` wants."""
    house = _house()
    with house.database.reading() as tx:
        keys = receipt_chain.published_keys(tx, signing_key(house.settings))
    click.echo(msgspec.json.format(msgspec.json.encode(keys)))


@recordings_group.command("disks")
def list_disks() -> None:
    """Say which disks recordings are kept on, how many on each, and how many of them are not to be seen here."""
    with _house().database.reading() as tx:
        disks = recording_work.on_disks(tx)
    for disk_id, kept in disks.items():
        click.echo(f"{disk_id or '--unnamed'} {len(kept)} kept, {len(_not_here(kept))} not here")
    if not disks:
        click.echo("No recordings are kept.")


@recordings_group.command("lost")
@click.argument("disk", required=False)
@click.option("--unnamed", is_flag=True, help="Instead of DISK: recordings whose disk took no name.")
@click.option("--yes", is_flag=True, help="Do it; else it is only said how many they would be.")
def declare_lost(disk: str | None, unnamed: bool, yes: bool) -> None:
    """Declare DISK lost: its recordings are gone, and who paid for one is given back. There is no way back.

    Files that can be seen from here are not lost, whatever disk they should be on.
    """
    if (disk is None) is not unnamed:
        raise click.UsageError("Name the disk, or say --unnamed.")
    database = _house().database
    with database.reading() as tx:
        disks = recording_work.on_disks(tx)
    if disk not in disks:
        raise click.ClickException("No recordings are kept there; see: recordings disks")
    gone = _not_here(disks[disk])
    what = f"{len(gone)} of {len(disks[disk])} recordings, which are not here"
    if not yes:
        raise click.ClickException(f"Nothing done. It would be {what}: --yes declares them lost.")
    for recording_id in gone:
        database.run(lambda tx, lost=recording_id: recording_work.lost(tx, lost, utc_now()))  # type: ignore[misc]
    click.echo(f"Declared lost: {what}. The clock gives back what was paid for them.")


def _not_here(recording_ids: Sequence[str]) -> list[str]:
    directory = _house().settings.recordings_dir
    return [each for each in recording_ids if not (directory / each / recordings.FILE).exists()]


@integrators_group.command("create-token")
@click.argument("name")
@click.option("--scope", "scopes", type=click.Choice(accounts.SCOPES), multiple=True, required=True)
def create_token(name: str, scopes: tuple[str, ...]) -> None:
    """Create an integrator's token; it is shown once."""
    token_id, token = _house().database.run(
        lambda tx: accounts.create_integrator_token(tx, name, scopes, utc_now())
    )
    click.echo(f"{token_id} {token}")


@integrators_group.command("revoke")
@click.argument("token_id")
def revoke_token(token_id: str) -> None:
    """Make an integrator's token worthless at once."""
    try:
        _house().database.run(lambda tx: accounts.revoke_token(tx, token_id, utc_now()))
    except DomainError as error:
        raise click.ClickException(error.detail) from error
    click.echo("Revoked.")


@click.command("docs")
@click.option("--directory", type=click.Path(path_type=Path), default=Path("docs"))
def write_docs(directory: Path) -> None:
    """Write docs/api.md and docs/errors.md again."""
    from web import APIS

    reference.write(directory, APIS)


def _house() -> Greenroom:


    return greenroom()
