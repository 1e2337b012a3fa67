"""One HTML file that needs nothing else: text, tables and pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment
from PIL import Image

from anowild.files import write_text


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, perhaps a table (its first row is the header), perhaps a picture."""

    title: str
    paragraphs: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    picture: Image.Image | None = None
    alt: str = ""

    @property
    def picture_url(self) -> str:
        assert self.picture is not None
        data = io.BytesIO()
        self.picture.save(data, format="PNG")
        return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  img { max-width: 100%; image-rendering: pixelated; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; }
  th, td { padding: .25rem .75rem; border-bottom: 1px solid #8886; text-align: left; }
  td + td, th + th { text-align: right; font-variant-numeric: tabular-nums; }
</style>
<h1>{{ title }}</h1>
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% for paragraph in section.paragraphs %}<p>{{ paragraph }}</p>
{% endfor %}
{% if section.rows %}<div class="wide"><table>
<tr>{% for cell in section.rows[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in section.rows[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>{% endif %}
{% if section.picture %}<img src="{{ section.picture_url }}" alt="{{ section.alt }}">{% endif %}
{% endfor %}
"""


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page; every text is escaped."""
    template = Environment(autoescape=True).from_string(_PAGE)
    write_text(path, template.render(title=title, sections=sections))
