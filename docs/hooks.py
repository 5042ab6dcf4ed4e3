"""MkDocs hooks: pages generated from the project's files, so that nothing is written twice.

Whole pages come from Markdown files elsewhere in the repository, from `configs/defaults.py` and
from the parsers of the command line. The line `<!-- configs -->` of a page becomes the table of
the shipped configs.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def included() -> dict[str, str]:
    """Returns the source of each page that is a Markdown file outside docs/, by page."""
    pages = {
        "contributing.md": "CONTRIBUTING.md",
        "changelog.md": "CHANGELOG.md",
        "security.md": "SECURITY.md",
        "devices.md": "launch/README.md",
        "data/index.md": "tfds_builders/README.md",
        "model_card.md": "fer_jax/shipped/ferplus/README.md",
    }
    for path in sorted(ROOT.glob("tfds_builders/*/README.md")):
        pages[f"data/{path.parent.name}.md"] = path.relative_to(ROOT).as_posix()
    for path in sorted(ROOT.glob("results/*.md")):
        pages[f"results/{path.name}"] = path.relative_to(ROOT).as_posix()
    return pages


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages of the data sets and of the results in the navigation."""
    for entry in config.nav or ():
        if isinstance(entry, dict) and list(entry.values()) == [[]]:
            (title,) = entry
            folder = {"Data sets": "data", "Results": "results"}[title]
            entry[title] = [page for page in included() if page.startswith(f"{folder}/")]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    pages = {page: _include(source) for page, source in included().items()}
    pages["reference/cli.md"] = command_line_page()
    pages["reference/config.md"] = configuration_page()
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fills in the table of configs."""
    return markdown.replace("<!-- configs -->", configs_table())


def _include(source: str) -> str:
    """Returns a Markdown file with a title and with links that hold in the site."""
    text = (ROOT / source).read_text(encoding="utf-8")
    folder = posixpath.dirname(source)
    if not text.startswith("# "):
        text = f"# {posixpath.basename(folder)}\n\n{text}"
    pages = {path: page for page, path in included().items()}
    here = posixpath.dirname(next(page for page, path in included().items() if path == source))

    def link(match: re.Match[str]) -> str:
        mark, label, target, anchor = match.group(1), match.group(2), match.group(3), match[4] or ""
        if not target or "://" in target or target.startswith("mailto:"):
            return match.group(0)
        path = posixpath.normpath(posixpath.join(folder, target))
        page = pages.get(path)
        if page is None and path.startswith("docs/"):
            page = path.removeprefix("docs/")
        if page is None:  # a file that is not in the site
            return label
        return f"{mark}[{label}]({posixpath.relpath(page, here or '.')}{anchor})"

    return _LINK.sub(link, text)


_CONFIGURATION = """# Configuration

Every field with its default, from `configs/defaults.py`. A config file sets what differs, nothing
else; `--config.FIELD=VALUE` on the command line overrides both, and `none` unsets a field whose
default is unset. A misspelled field is an error that names the nearest one.

Fields marked *duration* take a plain number in the unit that the text names, or a number with a
unit: `30ep` epochs, `2000st` steps, `50000ex` examples, `5%` of all steps.
"""


def configuration_page() -> str:
    """Returns the page of config fields, from the comments of configs/defaults.py."""
    lines = [_CONFIGURATION]
    for section, text, fields in _sections():
        lines += [f"## {section}", "", text, "", "| field | default | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | {default} | {comment} |" for name, default, comment in fields]
        lines.append("")
    return "\n".join(lines)


def _sections() -> Iterator[tuple[str, str, list[tuple[str, str, str]]]]:
    """Yields the title, description and fields of each section of configs/defaults.py."""
    source = (ROOT / "configs/defaults.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    top = functions["get_config"]
    yield "Top level", "", list(_fields(source, top, ""))
    for statement in top.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            name = getattr(statement.value.func, "id", "")
            if name in functions and isinstance(statement.targets[0], ast.Attribute):
                section = statement.targets[0].attr
                text = " ".join((ast.get_docstring(functions[name]) or "").split())
                yield section, text, list(_fields(source, functions[name], f"{section}."))


def _fields(source: str, function: ast.FunctionDef, prefix: str) -> Iterator[tuple[str, str, str]]:
    """Yields name, default and comment of each field that a function assigns."""
    lines = source.splitlines()
    for statement in function.body:
        if not isinstance(statement, ast.Assign):
            continue
        target, default = statement.targets[0], _default(statement.value)
        if default is None or not isinstance(target, ast.Attribute):
            continue
        comment: list[str] = []
        row = statement.lineno - 2
        while lines[row].strip().startswith("#"):
            comment.insert(0, lines[row].strip().removeprefix("#").strip())
            row -= 1
        dotted = ast.unparse(target).split(".", 1)[1]
        text = " ".join(comment).replace("|", "\\|").replace("<", "&lt;")
        yield f"{prefix}{dotted}", default, text


def _default(value: ast.expr) -> str | None:
    """Returns a default as Markdown, or None if the value is a section."""
    if isinstance(value, ast.Call):
        name = getattr(value.func, "id", "")
        if name == "placeholder":
            return "unset"
        if name == "duration":
            return f"`{ast.unparse(value.args[0])}` *duration*"
        return None
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return f"`{value.value}`"  # as it is typed on the command line
    return f"`{ast.unparse(value)}`"


_COMMAND_LINE = """# Command line

`fer-jax VERB ...` is also `python -m fer_jax VERB ...`. The forms of earlier versions still work:
`python -m fer_jax.main`, which trains, `python -m fer_jax.evaluate` and so on.

| exit code | meaning |
|---|---|
| 0 | finished |
| 1 | `export`: the file's probabilities differ from the run's |
| 2 | wrong input; one message, no traceback |
| 75 | another process of the job is lost |
| 130, 143, 129 | stopped by Ctrl-C, SIGTERM or SIGHUP, and saved |

| verb | what it does |
|---|---|
"""


def command_line_page() -> str:
    """Returns the page of the verbs, from what `--help` prints."""
    from fer_jax.cli import app

    table = "".join(f"| [`{verb}`](#{verb}) | {line} |\n" for verb, line in app.VERBS.items())
    helps = (f"\n## {verb}\n\n```text\n{help_of(verb)}\n```\n" for verb in app.VERBS)
    return _COMMAND_LINE + table + "".join(helps)


def help_of(verb: str) -> str:
    """Returns what `fer-jax VERB --help` prints, 88 columns wide."""
    from fer_jax.cli import app

    output, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "88"
    try:
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            app.main([verb, "--help"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return output.getvalue().rstrip()


def configs_table() -> str:
    """Returns the table of the shipped configs, from what they load as."""
    from fer_jax import config

    lines = [
        "| config | data set | protocol | network | pixels | initial weights |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted((ROOT / "configs").glob("*.py")):
        if path.stem == "defaults":
            continue
        settings = config.load(str(path))
        weights = settings.model.pretrained
        lines.append(
            f"| `{path.stem}` | [{settings.data.name}](data/{settings.data.name}.md) "
            f"| {settings.data.protocol or 'default'} | {settings.model.name} "
            f"| {settings.data.size} | {'random' if weights == 'none' else weights} |"
        )
    return "\n".join(lines)
