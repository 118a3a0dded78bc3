"""Proves that the book in target/book leads nowhere that is not there: every link and picture of every page, and every
anchor behind a link.

Run by dist-scripts/book after it has built the book, with python3 alone: `python3 tests/book_test.py`. Reads files
only. What is outside of the book (http and the like) is not asked. Failure: a plain unittest report and exit 1.
"""

import html.parser
import pathlib
import tempfile
import unittest
import urllib.parse

BOOK = pathlib.Path(__file__).resolve().parents[1] / "target/book"


class Page(html.parser.HTMLParser):
    """The addresses that a page leads to, and the anchors that it has."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, _, attributes):
        attributes = dict(attributes)
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}


def broken(book):
    """Links of a book that lead nowhere, each with its page."""
    pages = {path: Page(path) for path in book.rglob("*.html")}
    for path, page in pages.items():
        # The page for a wrong address is shown at any of them, and has the address of the book itself as its base.
        if path.name == "404.html":
            continue
        for link in page.links:
            scheme, server, target, _, anchor = urllib.parse.urlsplit(link)
            if scheme or server:
                continue
            file = (path.parent / urllib.parse.unquote(target)).resolve() if target else path
            if not file.is_file():
                yield f"{path.relative_to(book)}: there is no {link}"
            elif anchor and file in pages and urllib.parse.unquote(anchor) not in pages[file].anchors:
                yield f"{path.relative_to(book)}: there is no heading {link}"


class TheBook(unittest.TestCase):
    maxDiff = None

    def test_every_link_leads_somewhere(self):
        self.assertTrue((BOOK / "index.html").is_file(), "dist-scripts/book makes it")
        self.assertEqual([], sorted(broken(BOOK)))

    def test_a_link_that_leads_nowhere_is_noticed(self):
        with tempfile.TemporaryDirectory() as folder:
            book = pathlib.Path(folder).resolve()
            (book / "b.html").write_text('<h1 id="there">B</h1>', encoding="utf-8")
            for link, count in (("b.html#there", 0), ("http://example.com/x", 0), ("c.html", 1), ("b.html#gone", 1)):
                (book / "a.html").write_text(f'<a href="{link}">x</a>', encoding="utf-8")
                self.assertEqual(count, len(list(broken(book))), link)


if __name__ == "__main__":
    unittest.main()
