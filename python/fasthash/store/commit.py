"""One commit of a store: writes the new files, and says what the next manifest names.

Nothing but new files changes here. The writer then replaces the manifest, or undoes the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from fasthash._checks import code_bytes
from fasthash.store import files
from fasthash.store.draft import Draft
from fasthash.store.entries import Entries
from fasthash.store.files import new_name, write_file
from fasthash.store.keys import write_encoded
from fasthash.store.kinds import KINDS
from fasthash.store.manifest import FileFacts, Manifest, RemovedFacts, SegmentFacts
from fasthash.store.merging import save_segment
from fasthash.store.segment import Segment, open_segment

__all__ = ["Commit"]

_LARGE = 1 << 26  # bytes of codes that are written without a copy in memory
_MOST_ABSORBED = 8192  # removed entries that a commit writes anew, so that their lists stay few


class Commit:
    """A commit in the making.

    Args:
        folder: of the store.
        manifest: of the last commit.
        segments: of the store, as they are now.
    """

    def __init__(self, folder: Path, manifest: Manifest, segments: Sequence[Segment]) -> None:
        self._folder = folder
        self.after = list(segments)
        self.manifest_after = manifest.next((each.facts for each in segments), manifest.keys, manifest.next_id)
        self.written: list[Path] = []

    def write_draft(self, draft: Draft, kind: str | None, next_id: int) -> None:
        """Write the entries of a draft as a segment.

        Raises:
            OSError: the operating system refused it.
        """
        self.manifest_after = replace(self.manifest_after, keys=kind, next_id=next_id)
        if not len(draft):
            return
        n_bytes = len(draft) * code_bytes(self.manifest_after.n_bits)
        file = save_segment(self._folder, draft.index, flushed=n_bytes > _LARGE)
        self.written.append(self._folder / file.name)
        files.reached("segment written")
        facts = SegmentFacts(file, len(draft), None)
        if kind in KINDS:
            # Keys stand in the order of the entries, which is that of the file.
            plain = open_segment(self._folder, replace(self.manifest_after, keys="none"), facts)
            ids = plain.whole.entry_ids(np.arange(len(draft)))
            path = self._folder / new_name("keys", "keys")
            encoded = KINDS[kind].encoded([draft.map.keys[id] for id in ids.tolist()])
            facts = replace(facts, keys=write_encoded(path, KINDS[kind], encoded))
            self.written.append(path)
            files.reached("keys written")
        # With keys, the index file was checked above.
        self.after.append(open_segment(self._folder, self.manifest_after, facts, check=facts.keys is None))

    def write_removed(self, *, unsaved: bool) -> None:
        """Write the removed entries that no file holds, those of this draft included if that is told.

        Raises:
            OSError: the operating system refused it.
        """
        name = new_name("removed", "removed")
        content, pending = bytearray(), []
        for i, segment in enumerate(self.after):
            entries = np.concatenate([segment.owed, segment.unsaved]) if unsaved else segment.owed
            if len(entries):
                n_kept, entries = _absorbed(segment, entries)
                pending.append((i, n_kept, len(content) // 4, entries))
                content += entries.astype("<u4").tobytes()
        if content:
            file = FileFacts.of(name, len(content), bytes(content))
            for i, n_kept, begin, entries in pending:
                segment = self.after[i]
                removed = (*segment.facts.removed[:n_kept], RemovedFacts(file, begin, len(entries)))
                facts = replace(segment.facts, removed=removed)
                self.after[i] = segment.committed(facts, (*segment.lists[:n_kept], entries), unsaved=unsaved)
        self.after = [each for each in self.after if len(each.saved)]
        needed = {each.file.name for segment in self.after for each in segment.facts.removed}
        if name in needed:
            self.written.append(self._folder / name)
            write_file(self._folder / name, bytes(content))
            files.reached("removed written")
        self.manifest_after = replace(self.manifest_after, segments=tuple(each.facts for each in self.after))

    def undo(self) -> None:
        """Remove the new files."""
        for path in self.written:
            with suppress(OSError):
                path.unlink()


def _absorbed(segment: Segment, entries: Entries) -> tuple[int, Entries]:
    """The number of lists of a segment that stay, and a new list, which replaces the others.

    Lists that are not much larger than the new one are written again with it, up to a limit: so their number grows
    slowly, and a commit writes little.
    """
    n_kept, joined = len(segment.lists), [entries]
    n = len(entries)
    while n_kept and len(segment.lists[n_kept - 1]) <= 2 * n and n + len(segment.lists[n_kept - 1]) <= _MOST_ABSORBED:
        n_kept -= 1
        joined.append(segment.lists[n_kept])
        n += len(segment.lists[n_kept])
    return n_kept, np.sort(np.concatenate(joined))
