"""The layers of the project, and that no include or import runs upward.

    python tests/layers.py              # exit code 1 and a line for each edge that runs upward, or cycle
    python tests/layers.py --draw FILE  # the picture in ARCHITECTURE.md, as SVG

C++: each folder of cpp/src is a layer; LAYERS lists them, lowest first. The public headers in cpp/include/fasthash
belong to the layer that implements them. Python: modules may import only modules of their own or lower layers, also
inside functions and for type checking, and never in a cycle.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES, HEADERS, PACKAGE = ROOT / "cpp/src", ROOT / "cpp/include", ROOT / "python/fasthash"

LAYERS = {
    "platform": "operating system, threads, locks, memory, files",
    "kernels": "counting bits: one table of kernels per instruction set",
    "codes": "how codes and ids are held: sorted, byte-major, packed",
    "search": "one query or block of queries: selection, scans, plans",
    "segments": "immutable parts of an index, and searches over several",
    "io": "the bytes of an index file",
    "index": "what users see: indices, the C interface",
}
PUBLIC = {
    "error": "platform",
    "threads": "platform",
    "simd": "kernels",
    "codes": "codes",
    "ids": "codes",
    "id_filter": "search",
    "search": "search",
    "topk": "search",
    "index_file": "io",
    "index": "index",
    "flat_index": "index",
    "hier_index": "index",
    "fasthash": "index",
}

# Lowest first. A module belongs to the first layer that names it or a package above it.
MODULES = {
    "base": "_core _cuda _extras _arrays _columns _html _checks _labels _locks _shown _durable _folder_lock _npy "
    "_progress results record threads native",
    "codes": "codes _code_text _code_writing _integers perceptual turning _code_tables code_files filters "
    "_saved_folder",
    "indices": "_folder_kinds _index_options _query_filters _index_base _index_files _flat_index _hier_index index "
    "_gpu_arrays _gpu_copy gpu several duplicates interop neighbors",
    "stores": "store",
    "embeddings": "_quantiser _vectors _embedding_state _saved_kinds rescoring",
    "many machines": "distributed._ray distributed.merge distributed.pruning distributed.shard distributed.fleet "
    "distributed.states distributed.copies distributed.changing distributed.searching distributed.saving "
    "distributed.index distributed.manifest distributed.stored distributed.keeping distributed.durable "
    "distributed.packing distributed.asking distributed.relay distributed.relaying",
    "images": "_pixels _photo_files _hashed_files _photo_hashes _photos _phash _photo_groups _thumbnails folders dedup "
    "_video_files _video_frames _video_matches _video_hashes _videos _review_cards _review_page _video_page data",
    "learning": "_checkpoint _average _preprocessing _weights _hasher heads backbones _augmentation encoder losses "
    "baselines metrics _resume settings teaching _recomputing _training_data _training_run train _export plots",
    "runs": "distributed _experiment experiment evaluation grid unlabelled bench demo",
    "serving": "serving",
    "face": "cli __main__",
}


def layer_of_file(path: str) -> str:
    """`path`: as an include names it."""
    folder, _, name = path.partition("/")
    return PUBLIC[name.removesuffix(".h")] if folder == "fasthash" else folder


def includes() -> Iterator[tuple[str, str]]:
    """(file, included file), both as includes name them."""
    for folder in (SOURCES, HEADERS):
        for path in sorted(folder.rglob("*.*")):
            for included in re.findall(r'^#include "(.+)"', path.read_text(), re.MULTILINE):
                yield path.relative_to(folder).as_posix(), included


def upward_includes() -> list[str]:
    order = list(LAYERS)
    return [
        f"cpp: {file} ({layer_of_file(file)}) includes {included} ({layer_of_file(included)})"
        for file, included in includes()
        if order.index(layer_of_file(included)) > order.index(layer_of_file(file))
    ]


def layer_of_module(module: str) -> str | None:
    """`module`: without `fasthash.`; None for the package itself, which may import everything."""
    names = {name: layer for layer, listed in MODULES.items() for name in listed.split()}
    while module:
        if module in names:
            return names[module]
        module = module.rpartition(".")[0]
    return None


def imports() -> dict[str, set[str]]:
    """What each module imports of the package, wherever it does so."""
    paths = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    known = paths.keys() | {"_core", "_cuda"}
    graph = {}
    for module, path in paths.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fasthash":
                package = node.module.removeprefix("fasthash").lstrip(".")
                for alias in node.names:
                    full = f"{package}.{alias.name}".lstrip(".")
                    found.add(full if full in known else package)
        graph[module] = {name for name in found if name and name != module}
    return graph


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def upward_imports() -> list[str]:
    order = list(MODULES)
    wrong = []
    for module, found in imports().items():
        layer = layer_of_module(module)
        if module and layer is None:
            wrong.append(f"python: {module} belongs to no layer of tests/layers.py")
        for name in sorted(found) if layer else []:
            other = layer_of_module(name)
            if other and order.index(other) > order.index(layer):
                wrong.append(f"python: {module} ({layer}) imports {name} ({other})")
    return wrong


def cycles() -> list[str]:
    """A line for each cycle of imports. A package and its own modules are no cycle."""
    graph = {module: {name for name in found if not _same_package(module, name)} for module, found in imports().items()}
    wrong, done = [], set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            wrong.append("python: a cycle of imports: " + " -> ".join([*path[path.index(module) :], module]))
            return
        if module in done:
            return
        for name in sorted(graph.get(module, ())):
            visit(name, [*path, module])
        done.add(module)

    for module in graph:
        visit(module, [])
    return wrong


def _same_package(module: str, name: str) -> bool:
    return not module or module.startswith(f"{name}.") or name.startswith(f"{module}.")


def draw() -> str:
    """The layers of the core from the top down, with the number of includes between each two."""
    counts = Counter((layer_of_file(file), layer_of_file(included)) for file, included in includes())
    width, height, gap = 640, 46, 22
    order = list(reversed(LAYERS))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 150} {len(order) * (height + gap)}" '
        'font-family="sans-serif" font-size="14">'
    ]
    for row, layer in enumerate(order):
        y = row * (height + gap)
        below = [f"{other} {n}" for other in order[row + 1 :] if (n := counts[layer, other])]
        lines.append(
            f'<rect x="1" y="{y + 1}" width="{width}" height="{height}" rx="6" fill="#eef3fa" stroke="#4a6fa5"/>'
        )
        lines.append(f'<text x="14" y="{y + 19}" font-weight="bold">{layer}</text>')
        lines.append(f'<text x="110" y="{y + 19}">{LAYERS[layer]}</text>')
        if below:
            lines.append(f'<text x="110" y="{y + 38}" fill="#555" font-size="12">includes: {", ".join(below)}</text>')
            middle = width // 2
            lines.append(
                f'<path d="M{middle} {y + height + 1} v{gap - 6} m-5 -5 l5 6 l5 -6" fill="none" stroke="#4a6fa5"/>'
            )
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--draw"]:
        Path(sys.argv[2]).write_text(draw())
        return
    wrong = upward_includes() + upward_imports() + cycles()
    print("\n".join(wrong) if wrong else "no include or import runs upward")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
