#include "segments/segment.h"

#include <algorithm>

namespace fasthash {
namespace {

// Few items are looked through faster than a map of them is made.
constexpr std::size_t kFew = 1024;

}  // namespace

std::size_t Segment::nbytes() const {
    const IdMap* map = id_map_.get_if_made();
    return map == nullptr ? 0 : map->nbytes();
}

std::size_t Segment::find(std::int64_t wanted) const {
    const std::size_t n = n_items();
    if (n == 0 || wanted < smallest_id() || wanted > largest_id()) return IdMap::kNone;
    if (n <= kFew) {
        for (std::size_t item = 0; item < n; ++item) {
            if (id(item) == wanted) return item;
        }
        return IdMap::kNone;
    }
    return id_map_.get([this] { return std::make_unique<const IdMap>(*this); }).find(*this, wanted);
}

void Items::append(const Segment& segment, const std::vector<std::size_t>& items, std::size_t n_bytes) {
    const std::size_t n_old = n();
    codes.resize((n_old + items.size()) * n_bytes);
    ids.resize(n_old + items.size());
    segment.copy_codes(items.data(), items.size(), codes.data() + n_old * n_bytes);
    for (std::size_t i = 0; i < items.size(); ++i) ids[n_old + i] = segment.id(items[i]);
}

void Items::append(const NewItems& items) {
    const std::size_t n_old = n();
    codes.append(items.codes.data, items.codes.n * items.codes.n_bytes);
    ids.resize(n_old + items.codes.n);
    for (std::size_t i = 0; i < items.codes.n; ++i) ids[n_old + i] = items.id(i);
}

void Items::append(const LiveSegment& part, std::size_t n_bytes) {
    constexpr std::size_t kPiece = 65536;
    codes.reserve((n() + part.n_live) * n_bytes);
    ids.reserve(n() + part.n_live);
    std::vector<std::size_t> items;
    for (std::size_t item = 0; item < part.segment->n_items();) {
        const std::size_t end = std::min(item + kPiece, part.segment->n_items());
        items.clear();
        for (; item < end; ++item) {
            if (part.live.contains(item)) items.push_back(item);
        }
        append(*part.segment, items, n_bytes);
    }
}

}  // namespace fasthash
