"""Pages made of `studies/`: every folder's README with its figures, and one of all."""

import re
from pathlib import Path

STUDIES = Path(__file__).parent.parent / "studies"
PAGES = Path(__file__).parent / "studies"
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_HEAD = """\
# Studies

Each folder of `studies/` says its claim before its numbers, keeps every run or its table, and is
repeated by the command at its head. {doc}`All claims and verdicts </results>` stand in one table.

"""
_ENTRY = """\
## [{title}]({name}.md)

```{{image}} {figure}
:alt: {alt}
:width: 420px
:target: {name}.html
```

"""


def folders() -> list[Path]:
    """All studies, in their order."""
    return sorted(readme.parent for readme in STUDIES.glob("*/README.md"))


def page_of(folder: Path) -> str:
    """A study's README, its figures where they are."""
    text = (folder / "README.md").read_text()
    return _IMAGE.sub(lambda m: f"![{m[1]}](../../studies/{folder.name}/{m[2]})", text)


def title_of(text: str) -> str:
    """The first heading, without its mark."""
    return text.split("\n", 1)[0].removeprefix("# ")


def index_of(found: dict[str, str]) -> str:
    """A page of titles and first figures of the pages, by name."""
    parts = [_HEAD]
    for name, text in found.items():
        image = _IMAGE.search(text)
        number = name.split("_")[0]
        title = f"{number} · {title_of(text)}"
        if image is None:
            parts.append(f"## [{title}]({name}.md)\n\n")
        else:
            alt, figure = image.groups()
            parts.append(_ENTRY.format(title=title, name=name, alt=alt, figure=figure))
    listed = "\n".join(found)
    return "".join([*parts, f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{listed}\n```\n"])


def write_pages(app=None, config=None) -> None:
    """Write what has changed, so that an unchanged page is not built again."""
    found = {folder.name: page_of(folder) for folder in folders()}
    PAGES.mkdir(exist_ok=True)
    for name, text in {**found, "index": index_of(found)}.items():
        page = PAGES / f"{name}.md"
        if not page.is_file() or page.read_text() != text:
            page.write_text(text)
    for page in set(PAGES.glob("*.md")) - {PAGES / f"{name}.md" for name in (*found, "index")}:
        page.unlink()


def setup(app):
    """Before Sphinx looks for sources."""
    app.connect("config-inited", write_pages)
    return {"parallel_read_safe": True}
