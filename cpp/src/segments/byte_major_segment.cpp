#include "segments/byte_major_segment.h"

#include <algorithm>

#include "platform/files.h"

namespace fasthash {
namespace {

class ByteMajorEntries final : public RowEntries {
 public:
    ByteMajorEntries(const EntryIds& ids, Visibility visibility) : ids_(ids), visibility_(visibility) {}

    void push(std::size_t row, std::int32_t distance, TopK& nearest) const override {
        const std::int64_t id = ids_[row];
        if (visibility_.allows(row, id)) nearest.push(distance, id);
    }
    void push_expected(std::size_t row, std::int32_t distance, TopK& nearest) const override {
        nearest.push_expected(distance, ids_[row]);
    }
    bool restricted() const override { return !visibility_.all(); }
    bool stored() const override { return !ids_.counted(); }
    bool mostly_one() const override { return !restricted(); }
    void prefetch(std::size_t row) const override { ids_.prefetch(row); }
    std::int64_t least_id(std::size_t group) const override { return ids_.least_of(group); }
    std::uint64_t wanted_rows(std::size_t group) const override {
        return visibility_.live == nullptr ? ~std::uint64_t{0} : visibility_.live->word(group);
    }

 private:
    const EntryIds& ids_;
    Visibility visibility_;
};

}  // namespace

ByteMajorSegment::ByteMajorSegment(ByteMajorCodes codes, EntryIds ids, std::shared_ptr<const MappedFile> mapped)
    : codes_(std::move(codes)), ids_(std::move(ids)), mapped_(std::move(mapped)) {}

LiveSegment ByteMajorSegment::of(const std::vector<LiveSegment>& segments, const NewEntries& entries) {
    const std::size_t n_bytes = entries.codes.n_bytes;
    if (segments.empty() && entries.ids == nullptr) {
        Array<std::uint8_t> rows;
        rows.append(entries.codes.data, entries.codes.n * n_bytes);
        return LiveSegment(std::make_shared<const ByteMajorSegment>(ByteMajorCodes::from_rows(std::move(rows), n_bytes),
                                                                    EntryIds(entries.first_id, entries.codes.n)));
    }
    std::size_t n = entries.codes.n;
    for (const LiveSegment& each : segments) n += each.n_live;
    Entries all;
    all.codes.reserve(n * n_bytes);
    all.ids.reserve(n);
    for (const LiveSegment& each : segments) all.append(each, n_bytes);
    all.append(entries);
    EntryIds ids(all.ids.data(), n);
    all.ids = {};
    return LiveSegment(std::make_shared<const ByteMajorSegment>(
        ByteMajorCodes::from_rows(std::move(all.codes), n_bytes), std::move(ids)));
}

void ByteMajorSegment::copy_codes(const std::size_t* entries, std::size_t n, std::uint8_t* rows) const {
    for (std::size_t i = 0; i < n; ++i) codes_.copy_rows(entries[i], 1, rows + i * codes_.n_bytes());
}

std::size_t ByteMajorSegment::mapped_bytes() const { return mapped_ ? static_cast<std::size_t>(mapped_->size()) : 0; }

void ByteMajorSegment::scan_chunk(const QueryBlock& block, Visibility visibility, std::size_t chunk,
                                  std::size_t n_chunks, Stopper& stopper) const {
    const NumberRange groups = chunk_of(codes_.n_groups(), n_chunks, chunk);
    scan(codes_, ByteMajorEntries(ids_, visibility), block, groups, stopper);
}

void ByteMajorSegment::search(const QueryBlock& block, Visibility visibility, Stopper& stopper) const {
    scan_chunk(block, visibility, 0, 1, stopper);
}

}  // namespace fasthash
