#include "fasthash/flat_index.h"

#include <algorithm>

#include "fasthash/error.h"
#include "fasthash/ids.h"
#include "file_format.h"
#include "scan.h"
#include "sliced_codes.h"

namespace fasthash {
namespace {

// Room for more elements, grown as push_back would, so that inserting them afterwards cannot fail.
template <typename T>
void make_room(std::vector<T>& values, std::size_t n_more) {
    const std::size_t needed = values.size() + n_more;
    if (needed > values.capacity()) values.reserve(std::max(needed, values.capacity() + values.capacity() / 2));
}

// Whether the ids from `first` on are each larger than the one before.
bool ascend(const std::vector<std::int64_t>& ids, std::size_t first) {
    for (std::size_t i = std::max<std::size_t>(first, 1); i < ids.size(); ++i) {
        if (ids[i - 1] > ids[i]) return false;
    }
    return true;
}

class FlatItems final : public RowItems {
 public:
    FlatItems(const std::vector<std::int64_t>& ids, bool ids_ascend) : ids_(ids), ids_ascend_(ids_ascend) {}

    void push(std::size_t row, std::int32_t distance, TopK& nearest) const override {
        nearest.push(distance, ids_.empty() ? static_cast<std::int64_t>(row) : ids_[row]);
    }
    void prefetch(std::size_t row) const override {
        if (!ids_.empty()) __builtin_prefetch(&ids_[row]);
    }
    std::int64_t least_id(std::size_t) const override { return INT64_MIN; }  // not kept
    IdOrder order() const override { return ids_ascend_ ? IdOrder::ascending : IdOrder::any; }

 private:
    const std::vector<std::int64_t>& ids_;
    bool ids_ascend_;
};

}  // namespace

FlatIndex::FlatIndex(std::size_t n_bits)
    : Index(LevelLayout({n_bits})), codes_(std::make_unique<SlicedCodes>(layout().n_bytes())) {}

FlatIndex::~FlatIndex() = default;

std::unique_ptr<FlatIndex> FlatIndex::from_codes(SlicedCodes codes, std::vector<std::int64_t> ids) {
    auto index = std::make_unique<FlatIndex>(codes.n_bytes() * 8);
    if (!ids.empty()) ids = given_ids(ids.data(), ids.size(), 0, {});
    *index->codes_ = std::move(codes);
    index->next_id_ = ids.empty() ? index->do_size() : next_after(0, ids);
    index->ids_ascend_ = ascend(ids, 0);
    index->ids_ = std::move(ids);
    return index;
}

std::size_t FlatIndex::do_size() const { return codes_->size(); }

std::size_t FlatIndex::do_nbytes() const { return codes_->nbytes() + ids_.capacity() * sizeof(std::int64_t); }

void FlatIndex::do_add(CodeView codes, const std::int64_t* ids) {
    const std::size_t n = do_size();
    if (ids == nullptr) check_room_to_count(codes.n, next_id_);
    if (ids == nullptr && ids_are_counted()) {
        codes_->make_room(codes.n);
        next_id_ += codes.n;
    } else {
        // Counted ids are written out as soon as others join them, but not before those are known to be good.
        std::vector<std::int64_t> written_out;
        if (ids_are_counted()) written_out = counted_ids(n);
        std::vector<std::int64_t>& held = ids_are_counted() ? written_out : ids_;
        const HeldIds held_ids{held.size(), [&held](std::size_t i) { return held[i]; }};
        const std::vector<std::int64_t> added =
            ids == nullptr ? counted_ids(codes.n, next_id_) : given_ids(ids, codes.n, next_id_, held_ids);
        make_room(held, added.size());
        codes_->make_room(codes.n);
        held.insert(held.end(), added.begin(), added.end());
        if (&held == &written_out) ids_ = std::move(written_out);
        ids_ascend_ = ids_ascend_ && ascend(ids_, n);
        next_id_ = next_after(next_id_, added);
    }
    codes_->append(codes);
}

void FlatIndex::do_search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning,
                          std::int32_t* distances, std::int64_t* ids, QueryStats* stats, Stopper& stopper) const {
    if (pruning) throw ArgumentError("keep must not be given to a flat index, which has no levels to prune");
    scan(*codes_, FlatItems(ids_, ids_ascend_), queries, k, distances, ids, stopper);
    if (stats != nullptr)
        std::fill(stats, stats + queries.n, QueryStats{Plan::scan, false, 0, static_cast<std::int64_t>(do_size())});
}

void FlatIndex::do_save(const std::string& path) const {
    const std::size_t n = do_size();
    IndexWriter writer(path, {IndexKind::flat, layout(), n, !ids_are_counted()});
    codes_->for_each_piece([&writer](CodeView rows) { writer.codes(rows.data, rows.n * rows.n_bytes); });
    if (!ids_are_counted()) writer.ids(ids_.data(), ids_.size());
    writer.finish();
}

}  // namespace fasthash
