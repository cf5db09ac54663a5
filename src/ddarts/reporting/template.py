"""Filling in the templates of pages: one HTML file each, with its style sheet and its script inside."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from ddarts.reporting.curves import SERIES
from ddarts.reporting.formatting import percent
from ddarts.reporting.names import KINDS


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
        finalize=_unbroken,
    )
    environment.filters["percent"] = percent
    script = environment.get_template("page.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared: dict[str, Any] = {"kinds": KINDS, "series": SERIES, "script": script, "script_digest": digest}
    return environment.get_template(template).render(**shared, **values)


_UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|s|min|h|k|M|G)(?!\w))")


def _unbroken(value: Any) -> Any:
    """Keep numbers and their units on one line; text with marks of its own is left alone."""
    return _UNIT.sub("\N{NO-BREAK SPACE}", value) if type(value) is str else value
