"""Filling in the templates of pages: one HTML file each, with its style sheet and its script inside."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from ddarts.reporting.curves import SERIES
from ddarts.reporting.names import KINDS
from ddarts.reporting.numbers import percent


def render_page(template: str, **values: Any) -> str:
    """Return a page as HTML.

    The page's content security policy names the digest of its script: whatever a file of a run may smuggle into the
    page, no other script runs, and nothing is fetched.

    Args:
        template: name of a file in ``templates/``.
        **values: what the template shows; every text is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ddarts.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    script = environment.get_template("page.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared: dict[str, Any] = {"kinds": KINDS, "series": SERIES, "script": script, "script_digest": digest}
    return environment.get_template(template).render(**shared, **values)
