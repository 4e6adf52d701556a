"""Give a release the public address of the project: the links of README.md, and [project.urls].

    python .ci/release_links.py https://HOST/OWNER/NAME COMMIT

A package index shows README.md without the files beside it. The tree holds no address; .github/workflows/wheels.yml
passes the one of the repository that it runs in. Changes README.md and pyproject.toml in the current folder.
"""

import re
import sys
from pathlib import Path

PICTURE = re.compile(r'(!\[[^\]]*\]\(|src=")(?!\w+://)([^)"\s]+)')
LINK = re.compile(r"(\]\()(?!\w+://|#)([^)\s]+)")


def absolute(text, address, commit):
    """The text of a page with absolute links to files of a commit."""
    text = PICTURE.sub(rf"\g<1>{address}/raw/{commit}/\g<2>", text)
    return LINK.sub(rf"\g<1>{address}/blob/{commit}/\g<2>", text)


def urls(address, commit):
    """The table of pyproject.toml that a package index shows beside the text."""
    places = {
        "Homepage": address,
        "Documentation": f"{address}/blob/{commit}/docs/index.md",
        "Changelog": f"{address}/blob/{commit}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }
    return "\n[project.urls]\n" + "".join(f'{name} = "{place}"\n' for name, place in places.items())


def main(address, commit):
    readme, project = Path("README.md"), Path("pyproject.toml")
    readme.write_text(absolute(readme.read_text(encoding="utf-8"), address, commit), encoding="utf-8", newline="\n")
    with project.open("a", encoding="utf-8", newline="\n") as file:
        file.write(urls(address, commit))


if __name__ == "__main__":
    main(*sys.argv[1:])
