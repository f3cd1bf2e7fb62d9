"""``flask --app web …``: what an operator does from a shell."""

from __future__ import annotations

from pathlib import Path

import click
from flask import Flask
from flask.cli import AppGroup

import migrations
from models import audit
from models.clock import utc_now
from models.errors import DomainError
from models.services import accounts
from web import sign_in
from web.api import reference
from web.context import Greenroom, greenroom

database_group = AppGroup("db", help="The database.")
accounts_group = AppGroup("accounts", help="People.")
ledger_group = AppGroup("ledger", help="The books.")
integrators_group = AppGroup("integrators", help="Programs of others.")


def init_app(app: Flask) -> None:
    """Register the commands."""
    for group in (database_group, accounts_group, ledger_group, integrators_group):
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
