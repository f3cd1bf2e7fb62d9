"""/admin, the money: ledger and audits, one wish traced, purchases, disputes, payouts, complaints, flags."""

from __future__ import annotations

from flask import request

from models.clock import utc_now
from models.payments import PurchaseRow
from models.services import audits, book_search, complaints, floor, payment_search
from models.services import trace as tracing
from web.auth import role_required
from web.pages import blueprint
from web.pages.admin import shown
from web.pages.deps import database


@blueprint.get("/admin/ledger")
@role_required("admin")
def admin_ledger() -> str:
    """Audits, the totals of all accounts, transfers found by what is known of them."""
    with database().reading() as tx:
        words = request.args.get("q", "")
        totals = book_search.totals(tx)
        return shown(
            tx,
            "ledger",
            "Ledger",
            totals=totals,
            total=sum(totals.values()),
            runs=audits.runs(tx, 5),
            movements=book_search.search(tx, words, 100 if words.strip() else 20),
        )


@blueprint.get("/admin/trace")
@role_required("admin")
def admin_trace() -> str:
    """One wish from the click to the payout."""
    with database().reading() as tx:
        found = tracing.trace(tx, request.args.get("q", ""), utc_now())
        return shown(tx, "trace", "Trace", tab="ledger", trace=found)


@blueprint.get("/admin/payments")
@role_required("admin")
def admin_payments() -> str:
    """Purchases, disputes, refunds, payouts."""
    status = request.args.get("status", "")
    chosen = status if status in PurchaseRow.ALLOWED else ""
    with database().reading() as tx:
        return shown(
            tx,
            "payments",
            "Payments",
            chosen=chosen,
            counts=payment_search.purchase_counts(tx),
            purchases=payment_search.purchases(tx, words=request.args.get("q", ""), status=chosen),
            disputes=payment_search.disputes(tx),
            refunds=payment_search.refunds(tx, limit=20),
            payouts=payment_search.payouts(tx, limit=50),
        )


@blueprint.get("/admin/payments/<purchase_id>")
@role_required("admin")
def admin_purchase(purchase_id: str) -> str:
    """One purchase and all that followed."""
    with database().reading() as tx:
        found = payment_search.history(tx, purchase_id)
        return shown(tx, "purchase", "Purchase", tab="payments", found=found, purchase=found.purchase)


@blueprint.get("/admin/complaints")
@role_required("admin")
def admin_complaints() -> str:
    """Complaints to decide, and patterns that somebody should look at."""
    with database().reading() as tx:
        return shown(
            tx, "complaints", "Complaints", complaints=complaints.open_ones(tx), flags=floor.flags(tx)
        )
