#include "fasthash/flat_index.h"

#include <algorithm>
#include <array>

#include "fasthash/error.h"
#include "fasthash/hamming.h"
#include "fasthash/ids.h"
#include "fasthash/topk.h"
#include "file_format.h"

namespace fasthash {
namespace {

// Room for more elements, grown as push_back would, so that inserting them afterwards cannot fail.
template <typename T>
void make_room(std::vector<T>& values, std::size_t n_more) {
    const std::size_t needed = values.size() + n_more;
    if (needed > values.capacity()) values.reserve(std::max(needed, values.capacity() + values.capacity() / 2));
}

}  // namespace

std::unique_ptr<FlatIndex> FlatIndex::from_codes(std::size_t n_bits, std::vector<std::uint8_t> codes,
                                                 std::vector<std::int64_t> ids) {
    auto index = std::make_unique<FlatIndex>(n_bits);
    if (!ids.empty()) ids = ids_to_add(ids.data(), ids.size(), 0, {});
    index->codes_ = std::move(codes);
    index->next_id_ = ids.empty() ? index->do_size() : next_after(0, ids);
    index->ids_ = std::move(ids);
    return index;
}

std::size_t FlatIndex::do_nbytes() const { return codes_.capacity() + ids_.capacity() * sizeof(std::int64_t); }

void FlatIndex::do_add(CodeView codes, const std::int64_t* ids) {
    const bool stay_counted = ids == nullptr && ids_are_counted();
    if (stay_counted) {
        make_room(codes_, codes.n * codes.n_bytes);
        next_id_ += codes.n;
    } else {
        // Counted ids are written out as soon as others join them, but not before those are known to be good.
        std::vector<std::int64_t> written_out;
        if (ids_are_counted()) written_out = counted_ids(do_size());
        std::vector<std::int64_t>& held = ids_are_counted() ? written_out : ids_;
        const std::vector<std::int64_t> added = ids_to_add(ids, codes.n, next_id_, held);
        make_room(held, added.size());
        make_room(codes_, codes.n * codes.n_bytes);
        held.insert(held.end(), added.begin(), added.end());
        if (&held == &written_out) ids_ = std::move(written_out);
        next_id_ = next_after(next_id_, added);
    }
    codes_.insert(codes_.end(), codes.data, codes.data + codes.n * codes.n_bytes);
}

void FlatIndex::do_search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning,
                          std::int32_t* distances, std::int64_t* ids, QueryStats* stats) const {
    if (pruning) throw ArgumentError("keep must not be given to a flat index, which has no levels to prune");
    const std::size_t n = do_size();
    const std::size_t n_bytes = layout().n_bytes();
    TopK nearest(k, layout().n_bits());
    std::array<std::int32_t, kHammingBlock> block;
    for (std::size_t q = 0; q < queries.n; ++q) {
        nearest.clear();
        for (std::size_t begin = 0; begin < n; begin += kHammingBlock) {
            const std::size_t n_block = std::min(kHammingBlock, n - begin);
            hamming_distances(queries.row(q), codes_.data() + begin * n_bytes, n_block, n_bytes, block.data());
            for (std::size_t i = 0; i < n_block; ++i) {
                if (block[i] > nearest.limit()) continue;
                const std::size_t row = begin + i;
                nearest.push(block[i], ids_are_counted() ? static_cast<std::int64_t>(row) : ids_[row]);
            }
        }
        nearest.write(distances + q * k, ids + q * k);
        if (stats != nullptr) stats[q] = {0, static_cast<std::int64_t>(n)};
    }
}

void FlatIndex::do_save(const std::string& path) const {
    IndexWriter writer(path, {IndexKind::flat, layout(), do_size(), !ids_are_counted()});
    writer.codes(codes_.data(), codes_.size());
    if (!ids_are_counted()) writer.ids(ids_.data(), ids_.size());
    writer.finish();
}

}  // namespace fasthash
