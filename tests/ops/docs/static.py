"""What can be said of the pages without running anything."""
import re

from pages import BOOK, ROOT, SUMMARY, Wrong, anchors, book, checked, links, prose

# What helm's --set sets, and the word that stands for any key.
HELM_VALUES = ("config.", "image.", "demo.", "key")


def summary():
    """SUMMARY.md lists each page once, and nothing else."""
    text = SUMMARY.read_text()
    listed = re.findall(r"\]\(([^)]+)\)", text)
    there = {str(page.relative_to(BOOK)) for page in book()}
    problems = [f"SUMMARY.md lists {name} twice" for name in set(listed) if listed.count(name) > 1]
    problems += [f"SUMMARY.md does not list {name}" for name in sorted(there - set(listed))]
    problems += [f"SUMMARY.md lists {name}, which is not there" for name in set(listed) - there]
    return problems


def alerts():
    """Each alert's page is one of the book's."""
    rules = (ROOT / "grafana/alerts/alerting.yaml").read_text()
    listed = SUMMARY.read_text()
    names = set(re.findall(r"^ +- alert: (\w+)$", rules, re.M))
    if not names:
        return ["no alert was found in grafana/alerts/alerting.yaml"]
    lost = sorted(name for name in names if f"(runbooks/{name}.md)" not in listed)
    return [f"SUMMARY.md does not list runbooks/{name}.md, the page of an alert" for name in lost]


def link(page, target):
    """What is wrong with a link, or nothing."""
    if re.match(r"[a-z]+:", target):
        return None if target.startswith("https://") else "is not https"
    name, _, anchor = target.partition("#")
    found = (page.parent / name).resolve() if name else page
    if not found.exists():
        return "leads nowhere"
    if page.is_relative_to(BOOK) and not found.is_relative_to(BOOK):
        return "leaves docs/, so it would be broken in the book: name the path as `code`"
    if anchor and (found.suffix != ".md" or anchor not in anchors(found)):
        return "names a heading that is not there"
    return None


def all_links():
    problems, count = [], 0
    for page in checked():
        try:
            for target in links(page):
                count += 1
                if wrong := link(page, target):
                    problems.append(f"{page.relative_to(ROOT)}: the link to {target} {wrong}")
        except Wrong as wrong:
            problems.append(str(wrong))
    return problems, count


def keys():
    """Configuration keys and metrics that the pages name exist."""
    reference = "\n".join(
        (BOOK / page).read_text() for page in ["configuration.md", "proxy-configuration.md"]
    )
    known = set(re.findall(r"^\| `([^`]+)` \|", reference, re.M))
    metrics = set(re.findall(r"^\| `([^`]+)` \|", (BOOK / "metrics.md").read_text(), re.M))
    if not known or not metrics:
        return ["the references of configuration and metrics list nothing"]
    problems = []
    for page in [ROOT / "README.md", *book()]:
        text = page.read_text()
        for key in re.findall(r"--set '?([a-z][a-z0-9.]+)=", text):
            if key not in known and not key.startswith(HELM_VALUES):
                problems.append(f"{page.relative_to(ROOT)}: --set {key}: there is no such key")
        for metric in set(re.findall(r"\btidegate_[a-z0-9_]+[a-z0-9]\b", text)):
            plain = re.sub(r"_(bucket|sum|count)$", "", metric)
            if metric not in metrics and plain not in metrics:
                problems.append(f"{page.relative_to(ROOT)}: {metric}: there is no such metric")
    return problems


def empty():
    """A page without words is a page that was forgotten."""
    return [
        f"{page.relative_to(ROOT)} has next to nothing"
        for page in book()
        if len(prose(page).split()) < 20
    ]
