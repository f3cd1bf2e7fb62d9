"""The pages that people see: one module a page, plain values into the templates, never a query in them.

Must not know how a service decides; a view reads once, formats nothing itself, and lets templates speak.
``web.create_app`` registers ``blueprint``.
"""

from __future__ import annotations

from flask import Blueprint

from web.pages.context import page_context
from web.pages.wording import FILTERS

blueprint = Blueprint("pages", __name__)
blueprint.app_context_processor(page_context)
for _name, _filter in FILTERS.items():
    blueprint.add_app_template_filter(_filter, _name)
# Each module adds its views to the blueprint, which must be there before.
from web.pages import admin, admin_books, admin_people, admin_rooms  # noqa: E402, F401, I001
from web.pages import account, battles, bookings, call, creator, creators, entry, history  # noqa: E402, F401
from web.pages import home, patrons, purchases, studio, wallet  # noqa: E402, F401
