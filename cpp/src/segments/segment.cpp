#include "segments/segment.h"

#include <algorithm>

#include "search/safe_cuts.h"

namespace fasthash {
namespace {

// Below this number of entries a linear search beats building an IdMap.
constexpr std::size_t kFew = 1024;

}  // namespace

std::size_t Segment::nbytes() const {
    const IdMap* map = id_map_.get_if_made();
    return map == nullptr ? 0 : map->nbytes();
}

SafeCuts Segment::safe_cuts(CodeView, const LevelLayout&, const Pruning&, std::size_t, CutKind) const { return {}; }

bool Segment::needs_id_map() const { return n_entries() > kFew && !ids_ascend(); }

const IdMap& Segment::id_map() const {
    return id_map_.get([this] { return std::make_unique<const IdMap>(*this); });
}

std::size_t Segment::find(std::int64_t wanted) const {
    if (ids_ascend()) return find_ascending(*this, wanted);
    const std::size_t n = n_entries();
    if (n == 0 || wanted < smallest_id() || wanted > largest_id()) return IdMap::kNone;
    if (needs_id_map()) return id_map().find(*this, wanted);
    for (std::size_t entry = 0; entry < n; ++entry) {
        if (id(entry) == wanted) return entry;
    }
    return IdMap::kNone;
}

void Segment::build_id_map() const {
    if (needs_id_map()) id_map();
}

void Segment::take_id_map(std::unique_ptr<const IdMap> map) const {
    if (needs_id_map()) id_map_.get([&map] { return std::move(map); });
}

void Entries::append(const Segment& segment, const std::vector<std::size_t>& entries, std::size_t n_bytes) {
    const std::size_t n_old = n();
    codes.resize((n_old + entries.size()) * n_bytes);
    ids.resize(n_old + entries.size());
    segment.copy_codes(entries.data(), entries.size(), codes.data() + n_old * n_bytes);
    for (std::size_t i = 0; i < entries.size(); ++i) ids[n_old + i] = segment.id(entries[i]);
}

void Entries::append(const NewEntries& entries) {
    const std::size_t n_old = n();
    codes.append(entries.codes.data, entries.codes.n * entries.codes.n_bytes);
    ids.resize(n_old + entries.codes.n);
    for (std::size_t i = 0; i < entries.codes.n; ++i) ids[n_old + i] = entries.id(i);
}

void Entries::append(const LiveSegment& from, std::size_t n_bytes) {
    constexpr std::size_t kPiece = 65536;
    codes.reserve((n() + from.n_live) * n_bytes);
    ids.reserve(n() + from.n_live);
    std::vector<std::size_t> entries;
    for (std::size_t entry = 0; entry < from.segment->n_entries();) {
        const std::size_t end = std::min(entry + kPiece, from.segment->n_entries());
        entries.clear();
        for (; entry < end; ++entry) {
            if (from.live.contains(entry)) entries.push_back(entry);
        }
        append(*from.segment, entries, n_bytes);
    }
}

}  // namespace fasthash
