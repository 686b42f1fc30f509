"""Two files of some chunks each, of which a second version has fewer."""

from pathlib import Path


def write(folder: Path, version: int) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("a", "b"):
        sections = 4 if version == 1 else 2
        text = "".join(f"# Part {n}\n\n{name} {version} {'word ' * 300}\n\n" for n in range(sections))
        (folder / f"{name}.md").write_text(text)
