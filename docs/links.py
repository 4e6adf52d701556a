"""What the site does to links: files outside docs/, which the site does not hold, are linked in the repository.

`REPO_URL` names the repository, as .github/workflows/docs.yml sets it; without it such a link becomes the file's name.
"""

import posixpath
import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)]+)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    folder = posixpath.dirname(page.file.src_uri)

    def replace(link: re.Match[str]) -> str:
        target = link[0].rpartition("](")[2].rstrip(")")
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/"):
            return link[0]
        return f"[{link[1]}]({config.repo_url}/blob/main/{path})" if config.repo_url else link[1]

    return OUTSIDE.sub(replace, markdown)
