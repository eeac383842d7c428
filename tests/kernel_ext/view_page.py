"""The live view on a page of its own, without a notebook: for looking at it, and for tests in a bare Chromium.

    python -m tests.kernel_ext.view_page FOLDER

writes `light.html`, `dark.html` and the like into the folder, each with example data, and needs no server.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kernel_ext.widgets.scripts import STATIC, bundled
from kernel_ext.widgets.snapshot import snapshot
from tests.kernel_ext.samples import broken_cluster, look, quiet_cluster, waiting_look

# As JupyterLab sets them in its two themes.
LIGHT: Final = {
    "--jp-ui-font-color1": "rgba(0,0,0,.87)",
    "--jp-ui-font-color2": "rgba(0,0,0,.54)",
    "--jp-layout-color1": "#fff",
}
DARK: Final = {
    "--jp-ui-font-color1": "#fff",
    "--jp-ui-font-color2": "rgba(255,255,255,.7)",
    "--jp-layout-color1": "#111",
}

PAGE: Final = """<!doctype html><meta charset="utf-8"><title>view</title>
<style>:root {{ {theme} }} body {{ margin: 16px; background: var(--jp-layout-color1, {background}); }}
{css}</style>
<body {body}><div id="view"></div><script type="module">
{js}
const listeners = {{}};
window.model = {{
  state: {{ snapshot: {snapshot}, ...{more} }},
  get(name) {{ return this.state[name]; }},
  on(name, callback) {{ (listeners[name] ??= []).push(callback); }},
  sent: [],
  send(content) {{ this.sent.push(content); }},
  off(name, callback) {{ listeners[name] = (listeners[name] ?? []).filter((one) => one !== callback); }},
}};
window.listeners = () => listeners;
window.fire = (name, content) => (listeners[name] ?? []).forEach((callback) => callback(content));
window.end = render({{ model: window.model, el: document.getElementById("view") }});
{script}
</script></body>"""


def page(
    data: Mapping[str, Any],
    *,
    theme: Mapping[str, str] | None = None,
    dark: bool = False,
    script: str = "",
    more: Mapping[str, Any] | None = None,
) -> str:
    """A page that draws this snapshot; `script` runs after the first paint, with `model` and `fire(event)` at hand.

    `more` are the model's other values, such as `details`.
    """
    js = re.sub(r"^export default .*$", "", bundled(), flags=re.MULTILINE)
    return PAGE.format(
        theme=" ".join(f"{name}: {value};" for name, value in (theme or {}).items()),
        background="#14181d" if dark else "#fff",
        css=(STATIC / "view.css").read_text("utf-8"),
        body='data-jp-theme-light="false"' if dark else 'data-jp-theme-light="true"',
        js=js,
        snapshot=json.dumps(data).replace("</", "<\\/"),
        more=json.dumps(more or {}).replace("</", "<\\/"),
        script=script,
    )


def examples() -> dict[str, str]:
    """Pages by file name."""
    busy = snapshot(look(broken_cluster()), 7)
    return {
        "light.html": page(busy, theme=LIGHT),
        "dark.html": page(busy, theme=DARK, dark=True),
        "bare-dark.html": page(busy, dark=True),
        "waiting.html": page(snapshot(waiting_look(), 3), theme=LIGHT),
        "quiet.html": page(snapshot(look(quiet_cluster()), 1), theme=LIGHT),
        "stopped.html": page(snapshot(look(quiet_cluster()), 2, stopped=True), theme=LIGHT),
        "stale.html": page(
            busy,
            theme=LIGHT,
            script="document.getElementById('view').classList.add('jupyter-widgets-disconnected'); fire('comm_live_update');",
        ),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for file, text in examples().items():
        (folder / file).write_text(text, "utf-8")
