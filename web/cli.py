"""``flask --app web …``: what an operator does from a shell."""

from __future__ import annotations

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
from models.services import accounts, receipt_chain
from web import sign_in
from web.api import reference
from web.context import Greenroom, greenroom

database_group = AppGroup("db", help="The database.")
accounts_group = AppGroup("accounts", help="People.")
ledger_group = AppGroup("ledger", help="The books.")
receipts_group = AppGroup("receipts", help="Signed receipts.")
integrators_group = AppGroup("integrators", help="Programs of others.")


def init_app(app: Flask) -> None:
    """Register the commands."""
    for group in (database_group, accounts_group, ledger_group, receipts_group, integrators_group):
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
