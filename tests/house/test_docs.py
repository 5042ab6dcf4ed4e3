"""The documentation names what exists: files, modules, links, commands and their flags.

Read from the Markdown sources; the site itself is built by `make docs`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pathlib
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from fer_jax.cli import app

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "*.md", "docs/**/*.md", "launch/*.md", "results/*.md", "tfds_builders/**/*.md",
        ".github/**/*.md", "fer_jax/shipped/*/README.md",
    )
    for path in ROOT.glob(pattern)
)  # fmt: skip
HISTORY = ("CHANGELOG.md", "results/notes.md")  # these name what is gone

FROM_CODE = ("docs/reference/cli.md", "docs/reference/config.md")
INCLUDED = {
    "docs/contributing.md": "CONTRIBUTING.md",
    "docs/changelog.md": "CHANGELOG.md",
    "docs/security.md": "SECURITY.md",
    "docs/devices.md": "launch/README.md",
    "docs/data/index.md": "tfds_builders/README.md",
    "docs/model_card.md": "fer_jax/shipped/ferplus/README.md",
}
"""Pages of the site that `docs/hooks.py` makes, and their sources."""

_TOPS = (
    "fer_jax|tfds_builders|configs|docs|launch|tests|tools|benchmarks|requirements|[.]github|[.]ci"
)
_PATH = re.compile(rf"(?<![\w./~$-])(?:{_TOPS})/[\w./<>*-]*")
_DOTTED = re.compile(r"(?<![\w./-])(?:fer_jax|tfds_builders|benchmarks|tools)(?:\.\w+)+")
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@functools.cache
def _tracked() -> frozenset[str]:
    """Files and folders of the project: those that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    files = {name for name in listed.splitlines() if (ROOT / name).exists()}
    folders = {str(folder) for name in files for folder in pathlib.PurePath(name).parents}
    return frozenset(files | folders)


def _exists(path: str) -> bool:
    pattern = re.sub(r"<[^<>]*>|\bNAME\b", "*", path.rstrip("/."))
    if "*" in pattern:
        return any(ROOT.glob(pattern))
    return pattern in _tracked()


def missing_paths(text: str) -> set[str]:
    """Returns the project paths that `text` names and that do not exist."""
    return {path for path in _PATH.findall(text) if not _exists(path)}


def missing_names(text: str) -> set[str]:
    """Returns the dotted names that `text` has and that are neither modules nor in one."""
    return {name for name in _DOTTED.findall(text) if not _is_name(name)}


def _is_name(name: str) -> bool:
    parts = name.split(".")
    if parts[-1] in ("py", "md", "lock"):
        return True  # a file name
    for length in range(len(parts), 0, -1):
        place, rest = ROOT.joinpath(*parts[:length]), parts[length:]
        for source in (place.with_suffix(".py"), place / "__init__.py"):
            if source.is_file():
                return not rest or re.search(rf"\b{rest[0]}\b", source.read_text()) is not None
    return False


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY])
def test_every_path_and_module_exists(page: str) -> None:
    text = re.sub(r"https?://\S+", "", _text(page))
    assert missing_paths(text) == set()
    assert missing_names(text) == set()


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    slugs = (re.sub(r"[^\w\s-]", "", title.lower()).strip() for title in titles)
    return {re.sub(r"[-\s]+", "-", slug) for slug in slugs}


def _source(path: str) -> str:
    """Returns the file that a page of the site is made from; other paths as they are."""
    if match := re.fullmatch(r"docs/data/(\w+)\.md", path):
        return INCLUDED.get(path, f"tfds_builders/{match[1]}/README.md")
    if path.startswith("docs/results/"):
        return path.removeprefix("docs/")
    return INCLUDED.get(path, path)


def broken_links(page: str, text: str) -> set[str]:
    """Returns the link targets of a page that do not exist."""
    broken = set()
    for target in _LINK.findall(_FENCE.sub("", text)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        joined = (ROOT / page).parent / path if path else ROOT / page
        path = pathlib.Path(os.path.relpath(joined, ROOT)).as_posix()
        if path in FROM_CODE:
            continue
        source = _source(path)
        if not _exists(source) or (
            anchor and source.endswith(".md") and anchor not in _anchors(_text(source))
        ):
            broken.add(target)
    return broken


@pytest.mark.parametrize("page", PAGES)
def test_every_link_target_exists(page: str) -> None:
    assert broken_links(page, _text(page)) == set()


@functools.cache
def _flags(verb: str) -> frozenset[str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        app.main([verb, "--help"])
    return frozenset(re.findall(r"--[a-z_]+", output.getvalue())) | {"--help"}


@functools.cache
def _config_fields() -> frozenset[str]:
    from fer_jax import config, settings

    return frozenset(settings.flatten(config.defaults().to_dict()))


def _commands(text: str) -> Iterator[list[str]]:
    """Yields the words of each `fer-jax ...` and `python -m ...` in code of a page."""
    blocks = [re.sub(r"\\\n\s*", " ", block) for block in _FENCE.findall(text)]
    lines = [line for block in blocks for line in block.splitlines()[1:]]
    lines += re.findall(r"^    (\S.*)$", text, re.MULTILINE)  # indented code
    for line in [*lines, *_CODE.findall(_FENCE.sub("", text))]:
        for match in re.finditer(r"(?:^|[\s;&])(fer-jax|python3? -m)\s+(\S.*)", line):
            command = re.split(r"\s+#|\s+&&|[;|]", match.group(2))[0]
            with contextlib.suppress(ValueError):  # prose with a quote
                yield [match.group(1).split()[0], *shlex.split(command.replace("[", " "))]


def wrong_command(words: list[str]) -> str | None:
    """Returns what is wrong with a command, or None."""
    program, name, *rest = words
    verb = name.rstrip(",.:")
    if program != "fer-jax":
        module, verb = verb, _verb_of(verb, rest)
        if verb is None:
            return _wrong_module(module, rest)
    if verb in ("VERB", "--help", "--version"):
        return None
    if verb not in app.VERBS:
        return f"no verb {verb}"
    for word in rest:
        flag = word.split("=")[0]
        if flag.startswith("--config."):
            if flag.removeprefix("--config.") not in {*_config_fields(), "FIELD"}:
                return f"no field {flag}"
        elif re.fullmatch(r"--[a-z_]+", flag) and flag not in _flags(verb):
            return f"{verb} has no flag {flag}"
    return None


def _verb_of(module: str, words: list[str]) -> str | None:
    """Returns the verb of `python -m fer_jax...`; None for other modules."""
    if module == "fer_jax":
        return words.pop(0) if words else "--help"
    if module == "fer_jax.main":
        return "train"
    return module[8:].replace("_", "-") if module.startswith("fer_jax.") else None


def _wrong_module(module: str, words: list[str]) -> str | None:
    if module.split(".")[0] not in ("tfds_builders", "benchmarks", "tools"):
        return None  # a package of others
    unknown = _unknown_words(module, words)
    return None if _is_name(module) and not unknown else f"{module} lacks {unknown or 'a file'}"


def _unknown_words(module: str, words: list[str]) -> list[str]:
    """Returns the flags that the sources of a module do not have."""
    place = ROOT.joinpath(*module.split("."))
    files = [*place.rglob("*.py"), *place.parent.glob(f"{place.name}.py")]
    source = "".join(path.read_text() for path in files)
    flags = {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}
    return sorted(flag for flag in flags if f'"{flag}"' not in source)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY])
def test_every_command_parses(page: str) -> None:
    wrong = [(words, found) for words in _commands(_text(page)) if (found := wrong_command(words))]
    assert wrong == []


def test_the_checks_find_what_is_wrong() -> None:
    assert missing_paths("see `fer_jax/nothing.py` and `fer_jax/cli/`") == {"fer_jax/nothing.py"}
    assert missing_names("`fer_jax.nothing`, `fer_jax.load`") == {"fer_jax.nothing"}
    assert broken_links("README.md", "[a](no.md) [b](LICENSE) [c](CONTRIBUTING.md#no)") == {
        "no.md",
        "CONTRIBUTING.md#no",
    }
    text = "`fer-jax trane` `fer-jax train --workdri x` `fer-jax train --config.train.epoch=1`"
    assert [bool(wrong_command(words)) for words in _commands(text)] == [True] * 3
    (right,) = _commands("```\nfer-jax predict runs/demo a.jpg --out results  # comment\n```\n")
    assert wrong_command(right) is None


def test_workflows_and_issue_forms_are_whole() -> None:
    for path in sorted((ROOT / ".github").rglob("*.yml")):
        content = yaml.safe_load(path.read_text())
        if path.parent.name == "workflows":
            assert all({"runs-on", "steps"} <= job.keys() for job in content["jobs"].values()), path
        elif path.stem != "config":
            assert {"name", "description", "body"} <= content.keys(), path


def test_the_citation_names_this_version() -> None:
    import fer_jax

    assert yaml.safe_load(_text("CITATION.cff"))["version"] == fer_jax.__version__
