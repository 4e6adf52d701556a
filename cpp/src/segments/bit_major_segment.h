// A segment of bit-major codes, searched by Jaccard distance.
//
// Used by indices with Metric::jaccard for all of their codes. Entries are in the order of (bits set, id).
#pragma once

#include "codes/bit_major_codes.h"
#include "codes/entry_ids.h"
#include "segments/segment.h"

namespace fasthash {

class BitMajorSegment final : public Segment {
 public:
    /// `mapped`: keeps the mapped file open that codes and ids point into; null if they are in memory.
    BitMajorSegment(BitMajorCodes codes, EntryIds ids, std::shared_ptr<const MappedFile> mapped = nullptr)
        : codes_(std::move(codes)), ids_(std::move(ids)), mapped_(std::move(mapped)) {}
    /// Merge the live entries of these segments and the new ones.
    static LiveSegment of(const std::vector<LiveSegment>& segments, const NewEntries& entries);

    const BitMajorCodes& codes() const { return codes_; }
    const EntryIds& ids() const { return ids_; }

    std::size_t n_entries() const override { return ids_.size(); }
    std::int64_t id(std::size_t entry) const override { return ids_[entry]; }
    std::int64_t smallest_id() const override { return ids_.smallest(); }
    std::int64_t largest_id() const override { return ids_.largest(); }
    bool ids_ascend() const override { return ids_.ascend(); }
    void copy_codes(const std::size_t* entries, std::size_t n, std::uint8_t* rows) const override {
        codes_.copy_rows(entries, n, rows);
    }
    std::size_t nbytes() const override { return Segment::nbytes() + codes_.nbytes() + ids_.nbytes(); }
    std::size_t mapped_bytes() const override;
    const BitMajorSegment* bit_major() const override { return this; }
    HeldEntries held() const override { return {codes_, ids_.packed(), nullptr}; }

    // Of searches by Hamming distance, which no index makes in such a segment: they throw std::logic_error.
    bool scans(std::size_t, const Wanted&) const override { return true; }
    std::size_t scan_bytes() const override { return codes_.nbytes(); }
    void scan_chunk(const QueryBlock&, Visibility, std::size_t, std::size_t, Stopper&) const override;
    void search(const QueryBlock&, Visibility, Stopper&) const override;

 private:
    BitMajorCodes codes_;
    EntryIds ids_;
    std::shared_ptr<const MappedFile> mapped_;
};

}  // namespace fasthash
