"""Numbers that the documentation quotes are those of the results pages that it links to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", ROOT / "src/sottovoce/weights/README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]*benchmarks/results/[^)#\s]*\.md)\)")
INTERVAL = re.compile(r"([-−]?\d+\.\d+) ± (\d+\.\d+)")


def tables(text: str) -> dict[str, list[str]]:
    """Rows of each table by its header."""
    found: dict[str, list[str]] = {}
    header = None
    for line in text.splitlines():
        if not line.startswith("|"):
            header = None
        elif header is None:
            header = line
            found[header] = []
        elif not re.fullmatch(r"[|:\- ]+", line):
            found[header].append(line)
    return found


MEASURED = {
    header: rows
    for page in sorted(RESULTS.rglob("*.md"))
    for header, rows in tables(page.read_text(encoding="utf-8")).items()
}


def quoted_intervals(page: Path) -> list[tuple[str, str, list[Path]]]:
    """Means with intervals in paragraphs that link to results; those in parentheses are of other models."""
    found = []
    for paragraph in page.read_text(encoding="utf-8").split("\n\n"):
        linked = [(page.parent / link).resolve() for link in LINK.findall(paragraph)]
        outside = re.sub(r"\([^()]*\)", "", LINK.sub("]", paragraph))
        found += [(mean, half_width, linked) for mean, half_width in INTERVAL.findall(outside) if linked]
    return found


def is_measured(mean: str, half_width: str, page: Path) -> bool:
    """Whether a mean and its interval, to the quoted digits and whatever the sign, are on a page."""
    digits = len(mean.partition(".")[2])
    wanted = abs(float(mean.replace("−", "-"))), float(half_width)
    return any(
        (round(abs(float(value.replace("−", "-"))), digits), round(float(width), digits)) == wanted
        for value, width in INTERVAL.findall(page.read_text(encoding="utf-8"))
    )


def test_some_numbers_are_quoted():
    assert sum(len(quoted_intervals(page)) for page in PAGES) > 5
    assert any(header in MEASURED for page in PAGES for header in tables(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_quoted_intervals_are_on_the_linked_page(page):
    missing = [
        f"{mean} ± {half_width}"
        for mean, half_width, linked in quoted_intervals(page)
        if not any(is_measured(mean, half_width, result) for result in linked)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_copied_tables_are_those_of_the_results(page):
    copied = {header: rows for header, rows in tables(page.read_text(encoding="utf-8")).items() if header in MEASURED}
    assert copied == {header: MEASURED[header] for header in copied}
