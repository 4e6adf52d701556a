#include "segments/sliced_segment.h"

#include <algorithm>

#include "platform/files.h"

namespace fasthash {
namespace {

class SlicedItems final : public RowItems {
 public:
    SlicedItems(const ItemIds& ids, Admission admission) : ids_(ids), admission_(admission) {}

    void push(std::size_t row, std::int32_t distance, TopK& nearest) const override {
        const std::int64_t id = ids_[row];
        if (admission_.admits(row, id)) nearest.push(distance, id);
    }
    void prefetch(std::size_t row) const override { ids_.prefetch(row); }
    std::int64_t least_id(std::size_t group) const override { return ids_.least_of(group); }
    std::uint64_t wanted_rows(std::size_t group) const override {
        return admission_.live == nullptr ? ~std::uint64_t{0} : admission_.live->word(group);
    }

 private:
    const ItemIds& ids_;
    Admission admission_;
};

}  // namespace

SlicedSegment::SlicedSegment(SlicedCodes codes, ItemIds ids, std::shared_ptr<const MappedFile> mapped)
    : codes_(std::move(codes)), ids_(std::move(ids)), mapped_(std::move(mapped)) {}

LiveSegment SlicedSegment::of(const std::vector<LiveSegment>& parts, const NewItems& items) {
    const std::size_t n_bytes = items.codes.n_bytes;
    if (parts.empty() && items.ids == nullptr) {
        Array<std::uint8_t> rows;
        rows.append(items.codes.data, items.codes.n * n_bytes);
        return LiveSegment(std::make_shared<const SlicedSegment>(SlicedCodes::from_rows(std::move(rows), n_bytes),
                                                                 ItemIds(items.first_id, items.codes.n)));
    }
    std::size_t n = items.codes.n;
    for (const LiveSegment& part : parts) n += part.n_live;
    Items all;
    all.codes.reserve(n * n_bytes);
    all.ids.reserve(n);
    for (const LiveSegment& part : parts) all.append(part, n_bytes);
    all.append(items);
    ItemIds ids(all.ids.data(), n);
    all.ids = {};
    return LiveSegment(
        std::make_shared<const SlicedSegment>(SlicedCodes::from_rows(std::move(all.codes), n_bytes), std::move(ids)));
}

void SlicedSegment::copy_codes(const std::size_t* items, std::size_t n, std::uint8_t* rows) const {
    for (std::size_t i = 0; i < n; ++i) codes_.copy_rows(items[i], 1, rows + i * codes_.n_bytes());
}

std::size_t SlicedSegment::mapped_bytes() const { return mapped_ ? static_cast<std::size_t>(mapped_->size()) : 0; }

void SlicedSegment::scan_part(const QueryBlock& block, Admission admission, std::size_t part, std::size_t n_parts,
                              Stopper& stopper) const {
    const NumberRange groups = piece_of(codes_.n_groups(), n_parts, part);
    scan(codes_, SlicedItems(ids_, admission), block, groups, stopper);
}

void SlicedSegment::search(const QueryBlock& block, Admission admission, Stopper& stopper) const {
    scan_part(block, admission, 0, 1, stopper);
}

}  // namespace fasthash
