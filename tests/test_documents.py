"""The blocks of each page run, one after the other, as the page says; and so do the examples."""

import base64
import importlib.util
import re
from types import SimpleNamespace

import numpy as np
import pytest

import fasthash as fh
from documents import ROOT, python_blocks, run, text_blocks
from native_build import need
from native_build import run as run_program

PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
]


def anchors(page):
    """What a link may name on a page: its headings, as GitHub and mkdocs write them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)
    for link in filter(lambda link: "://" not in link, map("".join, links)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_site_has_every_page():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES if ROOT / "docs" in page.parents}
    assert set(re.findall(r"[\w/]+\.md", navigation)) == pages


def test_the_navigation_has_four_groups():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert re.findall(r"^  - ([\w ]+):", navigation, flags=re.MULTILINE) == [
        "Home", "Start", "Guides", "Explanation", "Reference",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("c.md", "[it](../examples/c/search.c)", "[it](https://host.invalid/o/n/blob/main/examples/c/search.c)"),
        ("api/index.md", "[it](../../README.md#x)", "[it](https://host.invalid/o/n/blob/main/README.md#x)"),
        ("api/index.md", "[it](../search.md)", "[it](../search.md)"),
        ("c.md", "[it](search.md)", "[it](search.md)"),
    ],
)
def test_links_out_of_the_site_lead_into_the_repository(source, link, expected):
    specification = importlib.util.spec_from_file_location("links", ROOT / "docs/links.py")
    links = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(links)
    page = SimpleNamespace(file=SimpleNamespace(src_uri=source))
    for address in ("https://host.invalid/o/n", ""):
        made = links.on_page_markdown(f"See {link}.", page=page, config=SimpleNamespace(repo_url=address))
        assert made == f"See {expected if address or '://' not in expected else 'it'}."


def test_the_site_is_built_without_a_warning_and_its_links_open_without_a_server(tmp_path):
    need("mkdocs")
    result = run_program(
        "mkdocs", "build", "--strict", "--site-dir", tmp_path, cwd=ROOT, env={"NO_MKDOCS_2_WARNING": "1"}
    )
    assert result.returncode == 0, result.stderr
    links = re.findall('<a href="([^"#]+)', (tmp_path / "index.html").read_text(encoding="utf-8"))
    links = [link for link in links if "://" not in link]
    assert len(links) > 10
    assert not [link for link in links if not (tmp_path / link).is_file()]


def test_examples_of_docstrings_are_a_section():
    """The site shows the section `Examples:` as code; `Example:` becomes a quoted line."""
    modules = [*(ROOT / "python/fasthash").rglob("*.py"), *(ROOT / "python/fasthash").rglob("*.pyi")]
    found = {
        str(path) for path in modules if re.search(r"^\s+Example:$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert found == set()


def test_how_the_search_works(tmp_path):
    assert run("".join(python_blocks("docs/search.md")), tmp_path) == "".join(text_blocks("docs/search.md"))


def test_getting_started(tmp_path):
    pytest.importorskip("timm", reason="needs the extra train")
    assert run("".join(python_blocks("docs/index.md")), tmp_path) == "".join(text_blocks("docs/index.md"))


def test_changing_an_index(tmp_path):
    assert run("".join(python_blocks("docs/updates.md")), tmp_path).splitlines() == [
        "100000 True False True",
        "[0 1 2 3] [7] [1 1 1]",
        "True",
        "100000 100000 100000",
    ]


def test_databases(tmp_path):
    """Every form of a column gives the same codes, and a table becomes a store."""
    assert run("".join(python_blocks("docs/databases.md")), tmp_path) == "".join(text_blocks("docs/databases.md"))
    lines = re.findall(
        r"^\| .* \| `((?:np|fh)[^`]*)` \|$", (ROOT / "docs/databases.md").read_text("utf-8"), re.MULTILINE
    )
    raw = [bytes.fromhex("fffffffffffffffe"), bytes.fromhex("0123456789abcdef")]
    numbers = [int.from_bytes(value, "big") for value in raw]
    columns = [
        [number - 2**64 * (number >> 63) for number in numbers],
        numbers,
        [f"{number:064b}" for number in numbers],
        raw,
        [value.hex() for value in raw],
        [base64.b64encode(value).decode() for value in raw],
    ]
    for line, values in zip(lines, columns, strict=True):
        codes = eval(line, {"np": np, "fh": fh, "base64": base64, "values": values})
        assert codes.dtype == np.uint8
        assert [code.tobytes() for code in codes] == raw, line


def test_a_gallery_on_disk(tmp_path):
    assert run("".join(python_blocks("docs/store.md")), tmp_path) == "".join(text_blocks("docs/store.md"))


def test_learning_codes(tmp_path):
    """The block that wants the encoder of the demo gets a small one, to be quick."""
    pytest.importorskip("timm", reason="needs the extra train")
    pytest.importorskip("sklearn", reason="needs the extra demo")
    search, train, audit, hash_features = python_blocks("docs/learning.md")
    build = """
import pathlib
import fasthash as fh
from fasthash.data import load_folder
pathlib.Path("examples").mkdir()
pathlib.Path("examples/photos").symlink_to(ROOT)
pathlib.Path("demo-report").mkdir()
pathlib.Path("my-encoder").rename("demo-report/encoder")
encoder = HashEncoder.load("demo-report/encoder")
index = fh.HierIndex(encoder.level_bits)
index.add(encoder.encode(load_folder("examples/photos", transform=encoder.transform).gallery))
index.save("demo-report/gallery.fh")
""".replace("ROOT", repr(str(ROOT / "examples/photos")))
    train = train.replace(").train", ").query")
    hash_features = re.sub(r"^codes = .*$", r"\g<0>\nprint(codes.shape)", hash_features, flags=re.MULTILINE)
    printed = run("".join([train, build, search, audit, hash_features]), tmp_path)
    first, *others = printed.splitlines()
    assert re.fullmatch(r"0\.\d{3} of the neighbours have the query's class", first)
    assert "53,000" in printed
    assert others[-3:] == ["(1797, 4)"] * 3


def test_choosing_a_width(tmp_path):
    assert run("".join(python_blocks("docs/width.md")), tmp_path).splitlines() == [
        "0.05 400.0",
        "0.25 50000.0",
        *"".join(text_blocks("docs/width.md")).splitlines(),
    ]


def test_coming_from_faiss(tmp_path):
    pytest.importorskip("faiss", reason="needs the extra faiss")
    assert run("".join(python_blocks("docs/faiss.md")), tmp_path).splitlines() == [
        "SearchResult(distances=array([[ 0, 65]], dtype=int32), ids=array([[ 7, -1]]))",
        "int32 float32",
        "source holds ids that cannot be taken over: ids must be distinct, got 0 twice",
    ]


def test_with_scikit_learn(tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra sklearn")
    best, bayes, n_clusters = run("".join(python_blocks("docs/sklearn.md")), tmp_path).splitlines()
    assert float(best.split()[-1]) > 0.9
    assert float(bayes) > 0.7
    assert int(n_clusters) > 5


def test_codes_of_a_data_set(tmp_path):
    pytest.importorskip("torch", reason="needs the extra train")
    pytest.importorskip("sklearn", reason="needs the extra sklearn")
    printed = run((ROOT / "examples/torch_dataset.py").read_text(encoding="utf-8"), tmp_path)
    share = re.search(r"(0\.\d{3}) of the neighbours", printed)
    assert float(share[1]) > 0.8


def test_deep_hashing_from_a_folder(tmp_path):
    """On few images, one epoch: what it says is for a real run."""
    pytest.importorskip("timm", reason="needs the extra demo")
    pytest.importorskip("matplotlib", reason="needs the extra demo")
    from PIL import Image

    from pictures import assert_shows

    random = np.random.default_rng(0)
    for colour in range(3):
        for number in range(12):
            place = tmp_path / "photos" / f"class {colour}" / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 60, (32, 32, 3), np.uint8)
            pixels[..., colour] += 150
            Image.fromarray(pixels).save(place)
    printed = run((ROOT / "examples/deep_hashing.py").read_text(encoding="utf-8"), tmp_path, "photos", "1")
    assert "mAP@ALL at 64 bits" in printed
    for colour in 180 * np.eye(3) + 30 * (1 - np.eye(3)):  # photos of each class, as they look from afar
        assert_shows(tmp_path / "neighbours.png", colour)
    assert len(fh.load(tmp_path / "my-gallery.fh")) == 33


def test_embeddings(tmp_path):
    first, recall, *others = run("".join(python_blocks("docs/embeddings.md")), tmp_path).splitlines()
    assert first == "1.0"
    assert 0.5 < float(recall) < 1
    assert others == [
        "5000 ''",
        "1.0",
        "True",
        "0",
        "5000 distinct codes",
        "128 (100, 10)",
    ]


def test_past_one_machine(tmp_path):
    pytest.importorskip("ray", reason="needs the extra ray")
    assert run("".join(python_blocks("docs/scaling.md")), tmp_path).splitlines() == [
        "True True",
        "HierIndex",
        "HierIndex",
        "ShardedIndex(level_bits=(8, 16, 40), n_shards=1, replicas=1, memory='default') with 9,999 codes",
        "1",
        "10000 1 True",
        "103000 True",
    ]


def test_near_duplicates(tmp_path):
    assert run("".join(python_blocks("docs/dedup.md")), tmp_path).splitlines() == [
        "[array([0, 1, 3]), array([2, 4])]",
        "[array([11, 13]), array([12, 14])]",
        "[0 0 1 2] [1 3 3 4] [1 3 4 0]",
        "[11 13] [2 4]",
    ]


def test_embeddings_of_text(tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra sklearn")
    printed = run((ROOT / "examples/embeddings.py").read_text(encoding="utf-8"), tmp_path)
    recalls = [float(recall) for recall in re.findall(r"recall@10 (\S+)", printed)]
    assert len(recalls) == 3
    assert recalls == sorted(recalls)
    assert recalls[1] > 0.8
    assert re.search(r"days between two dates: calendar\.Calendar", printed)


def test_near_duplicates_of_photos(tmp_path):
    pytest.importorskip("imagehash", reason="needs the extra dedup")
    pytest.importorskip("sklearn", reason="needs the extra sklearn")
    printed = run((ROOT / "examples/near_duplicates.py").read_text(encoding="utf-8"), tmp_path)
    assert "rows 6 18\n12 photos, 12 hashed, 0 groups\n18 photos, 7 hashed, 7 groups\n" in printed


def test_encoding_at_scale(tmp_path):
    pytest.importorskip("timm", reason="needs the extra train")
    pytest.importorskip("ray", reason="needs the extra ray")
    from photos import picture, small_encoder, write

    small_encoder().save(tmp_path / "runs/a/encoder")
    for seed in range(3):
        write(tmp_path / "photos" / f"{seed}.png", picture(seed))
    (tmp_path / "photos/broken.jpg").write_bytes(b"no photo")
    printed = run("".join(python_blocks("docs/encoding.md")), tmp_path).splitlines()
    assert printed == ["broken.jpg UnidentifiedImageError", "3 0.png"]
