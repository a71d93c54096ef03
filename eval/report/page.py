"""Self-contained pages from the templates; every text is escaped."""

from __future__ import annotations

import json
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)</h2>', re.DOTALL)


def page(template: str, filters: dict[str, Any] | None = None, **values: Any) -> str:  # noqa: ANN401
    """Render a template.

    Args:
        template: name of a file in `templates/`.
        filters: Jinja filters of the template.
        values: variables of the template.
    """
    environment = Environment(
        loader=PackageLoader("presel_lightning.eval", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"sections": sections, **(filters or {})}
    return environment.get_template(template).render(**values)


def sections(body: str) -> list[tuple[str, Markup]]:
    """Return id and heading of each section of a page, for its table of contents."""
    return [(name, Markup(heading)) for name, heading in HEADING.findall(body)]  # of our own page


def embedded(value: Any) -> Markup:  # noqa: ANN401 - any JSON value
    """Encode JSON for a script element, escaped so that no text ends the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
