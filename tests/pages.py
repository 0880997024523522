"""What every page of the project must be: whole, alone, in the one style, and no wider than a telephone."""

from html.parser import HTMLParser

from data_pipelines.pages import html

VOID = {"meta", "br"}


class Page(HTMLParser):
    """A page that was read and found right; its ids, its links to itself and its text are kept.

    Fails on a tag that is not closed in order, on anything that would be loaded, on another style than that of
    `pages.html`, on an id that occurs twice, on a link to nowhere, and on a table outside a box that scrolls.
    """

    def __init__(self, page: str):
        super().__init__()
        self.open: list[tuple[str, dict]] = []
        self.ids, self.links, self.words, self.styles, self.viewport = [], [], [], [], ""
        self.feed(page)
        assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
        assert not self.open
        assert self.styles == [html.STYLE]
        assert "width=device-width" in self.viewport
        assert len(self.ids) == len(set(self.ids)) and set(self.links) <= set(self.ids)
        assert "@import" not in page and "url(http" not in page

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        inside, given = [name for name, _ in self.open], dict(attributes)
        assert tag not in ("script", "link", "img", "iframe") and "src" not in given
        for name in ("href", "xlink:href"):
            assert given.get(name, "#").startswith(("#", "data:image/png;")), given
        if tag == "a":
            self.links.append(given["href"][1:])
        # Pictures repeat the paths that they share; equal names are equal paths.
        if "id" in given and "path" not in (tag, *inside) and "defs" not in inside:
            self.ids.append(given["id"])
        if tag == "table":
            assert self.open[-1] == ("div", {"class": "scroll"})
        if tag == "meta" and given.get("name") == "viewport":
            self.viewport = given["content"]
        if tag not in VOID:
            self.open.append((tag, given))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        inside = [name for name, _ in self.open]
        if "style" not in inside:
            self.words.append(data)
        elif "svg" not in inside:
            self.styles.append(data)
