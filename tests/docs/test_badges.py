"""README's links to Binder."""

from __future__ import annotations

import pytest

from tests.docs.badges import BEGIN, END, ROOT, badges, binder_url, readme, titles, with_badges

ADDRESS = "https://mybinder.org/v2/gh/OWNER/NAME/HEAD"


def project(urls: str) -> str:
    return f'[project]\nname = "raftoral-nb"\n{urls}'


def test_readme_has_the_links_that_the_addresses_of_the_project_give() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme(), "run `make docs`"


def test_without_an_address_there_is_no_link() -> None:
    assert binder_url(project("")) is None
    assert binder_url(project('[project.urls]\nSource = "https://example.org"')) is None
    assert badges(None, {"01_a.ipynb": "01 A"}) == ""


def test_with_one_there_is_a_link_for_each_notebook_that_opens_it_in_jupyterlab() -> None:
    address = binder_url(project(f'[project.urls]\nBinder = "{ADDRESS}/"'))
    assert address == ADDRESS
    notebooks = titles(ROOT / "notebooks")
    made = badges(address, notebooks)
    assert len(notebooks) >= 9
    for name, title in notebooks.items():
        assert (ROOT / "notebooks" / name).is_file()
        assert f"({ADDRESS}?labpath=notebooks%2F{name}) {title}" in made
    assert made.count("https://mybinder.org/badge_logo.svg") == len(notebooks)


def test_an_address_that_binder_would_not_understand_is_refused() -> None:
    with pytest.raises(ValueError, match="is like https://mybinder"):
        binder_url(project('[project.urls]\nBinder = "https://mybinder.org/OWNER/NAME"'))


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    text = f"above\n{BEGIN}\nold\n{END}\nbelow {END[:3]}\n"
    assert with_badges(text, "new") == f"above\n{BEGIN}\nnew\n{END}\nbelow {END[:3]}\n"
    assert with_badges(with_badges(text, "new"), "") == f"above\n{BEGIN}\n{END}\nbelow {END[:3]}\n"
    for broken in (text.replace(BEGIN, ""), text.replace(END, ""), text + text):
        with pytest.raises(ValueError, match="needs these two lines"):
            with_badges(broken, "new")
