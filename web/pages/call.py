"""/call/<sessionId>: the private stream, for its two sides and nobody else.

Shows what the database knows; media then tells the page's script the true clock.
"""

from __future__ import annotations

import msgspec
from flask import redirect, render_template
from werkzeug.wrappers import Response

from models import end_words
from models.services import sessions, wallet
from web.auth import current_person, login_required
from web.pages import blueprint, wording
from web.pages.deps import database


class CallData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What js/pages/call.js starts from; ``available`` is what the viewer has to spend."""

    user_id: str
    available: int
    session: sessions.SessionView


@blueprint.get("/call/<session_id>")
@login_required
def call(session_id: str) -> str | Response:
    """The call while it runs; its receipt once it does not. NotFound for anybody else's."""
    person = current_person()
    assert person is not None
    with database().reading() as tx:
        view = sessions.session_view(tx, session_id, person.user_id)
        purse = wallet.wallet(tx, person.user_id)
    if not isinstance(view, sessions.SessionView) or view.status == "settling":
        return redirect(f"/history/{session_id}")
    terms = end_words.terms(
        min_minutes=view.min_minutes,
        rate_per_minute=view.rate_per_minute,
        minute_ms=view.minute_ms,
        per_minute=view.payment_mode == "per_minute",
        included_minutes=view.included_minutes,
        unlock_price=view.unlock_price,
        money=wording.money,
    )
    data = CallData(user_id=person.user_id, available=purse.available, session=view)
    return render_template("call.html", call=view, terms=terms, page_json=msgspec.json.encode(data).decode())
