"""The pages of the documentation: their text with what they include, links, anchors and blocks."""
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent
BOOK = ROOT / "docs"
SUMMARY = BOOK / "SUMMARY.md"

FENCE = re.compile(r"^( *)(```+|~~~+)\s*([\w-]*).*$")
COMMENT = re.compile(r"^<!--\s*(.*?)\s*-->$", re.S)
INCLUDE = re.compile(r"\{\{#include ([^}:]+)(?::([\w-]+))?\}\}")
# [text](target "title"), also with an image as the text, and [name]: target at the start of a line.
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.M)


class Wrong(Exception):
    """What is wrong with a page, in words for whoever mends it."""


@dataclass
class Block:
    """A fenced block, and the directives that stand before it as comments of their own."""

    page: Path
    line: int
    language: str
    text: str
    directives: dict = field(default_factory=dict)

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def book():
    """All pages of the book but the summary."""
    return sorted(page for page in BOOK.rglob("*.md") if page != SUMMARY)


def checked():
    """All pages whose links must lead somewhere."""
    outside = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md"]
    found = [ROOT / page for page in outside]
    for folder in ["grafana", "helm", "deploy"]:
        found += sorted((ROOT / folder).rglob("*.md"))
    return [*found, SUMMARY, *book()]


def lines_of(page):
    """The lines of a page, each with whether it is inside of a fenced block."""
    fence = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        match = FENCE.match(line)
        if fence is None and match:
            fence = match[2]
            yield number, line, "open"
        elif fence is not None and line.strip().startswith(fence) and not line.strip("` ~"):
            fence = None
            yield number, line, "close"
        else:
            yield number, line, "inside" if fence else "text"
    if fence:
        raise Wrong(f"{page.relative_to(ROOT)}: a block is never closed")


def included(page, name, anchor):
    """What `{{#include name:anchor}}` stands for."""
    source = (page.parent / name).resolve()
    if not source.is_file():
        raise Wrong(f"{page.relative_to(ROOT)} includes {name}, which is not there")
    text = source.read_text()
    if anchor is None:
        return text
    pattern = rf"ANCHOR:\s*{anchor}\b[^\n]*\n(.*?)^[^\n]*ANCHOR_END:\s*{anchor}\b"
    found = re.findall(pattern, text, re.S | re.M)
    if len(found) != 1 or not found[0].strip():
        raise Wrong(f"{page.relative_to(ROOT)}: {name} has no text, or two, at anchor {anchor}")
    return "".join(line for line in found[0].splitlines(True) if "ANCHOR" not in line)


def prose(page):
    """The page without its blocks and code spans, with what it includes."""
    text = "\n".join(line for _, line, place in lines_of(page) if place == "text")
    text = INCLUDE.sub(lambda found: included(page, found[1], found[2]), text)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text, flags=re.S)


def links(page):
    text = prose(page)
    return LINK.findall(text) + REFERENCE.findall(text)


def anchors(page):
    """The ids of a page's headings, as GitHub and mdBook make them."""
    text = "\n".join(line for _, line, place in lines_of(page) if place == "text")
    text = INCLUDE.sub(lambda found: included(page, found[1], found[2]), text)
    found = set()
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", text, re.M):
        heading = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
        name = name.replace(" ", "-")
        names = (f"{name}-{count}" if count else name for count in range(1000))
        found.add(next(candidate for candidate in names if candidate not in found))
    return found


def directive(text):
    """`not run: why` of a comment, if it is one that the tests know."""
    name, _, value = text.partition(":")
    known = {"not run", "file", "starts", "stops", "fails", "printed", "with"}
    return (name.strip(), value.strip()) if name.strip() in known else None


def blocks(page):
    """The fenced blocks of a page in order, and the directives of the whole page."""
    found, pending, whole, comment, block = [], {}, {}, None, None
    for number, line, place in lines_of(page):
        if place == "open":
            language = FENCE.match(line)[3]
            block, pending = Block(page, number, language, "", pending), {}
        elif place == "inside":
            block.text += line + "\n"
        elif place == "close":
            found.append(block)
        elif comment is not None or line.startswith("<!--"):
            comment = f"{comment}\n{line}" if comment is not None else line
            if not (closed := COMMENT.match(comment)):
                continue
            comment = None
            if known := directive(closed[1]):
                (whole if known[0] == "with" else pending)[known[0]] = known[1]
        elif line.strip():
            if pending:
                raise Wrong(f"{page.relative_to(ROOT)}:{number}: {pending} stands before no block")
    if pending:
        raise Wrong(f"{page.relative_to(ROOT)}: {pending} stands before no block")
    return found, whole
