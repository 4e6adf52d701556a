// A segment of byte-major codes in insertion order, searched by a scan.
//
// Used by FlatIndex for all of its codes, by HierIndex for its tail, and for the entries that a narrow filter allows.
#pragma once

#include "codes/byte_major_codes.h"
#include "codes/entry_ids.h"
#include "segments/segment.h"

namespace fasthash {

class ByteMajorSegment final : public Segment {
 public:
    /// `mapped`: keeps the mapped file open that codes and ids point into; null if they are in memory.
    ByteMajorSegment(ByteMajorCodes codes, EntryIds ids, std::shared_ptr<const MappedFile> mapped = nullptr);
    /// Merge the live entries of these segments, then the new ones, in that order.
    static LiveSegment of(const std::vector<LiveSegment>& segments, const NewEntries& entries);

    const ByteMajorCodes& codes() const { return codes_; }
    const EntryIds& ids() const { return ids_; }

    std::size_t n_entries() const override { return ids_.size(); }
    std::int64_t id(std::size_t entry) const override { return ids_[entry]; }
    std::int64_t smallest_id() const override { return ids_.smallest(); }
    std::int64_t largest_id() const override { return ids_.largest(); }
    HeldEntries held() const override { return {codes_, ids_.packed(), nullptr}; }
    void copy_codes(const std::size_t* entries, std::size_t n, std::uint8_t* rows) const override;
    std::size_t nbytes() const override { return Segment::nbytes() + codes_.nbytes() + ids_.nbytes(); }
    std::size_t mapped_bytes() const override;

    bool ids_ascend() const override { return ids_.ascend(); }
    bool scans(std::size_t, const Wanted&) const override { return true; }
    std::size_t scan_bytes() const override { return codes_.n_groups() * kGroup * codes_.n_bytes(); }
    void scan_chunk(const QueryBlock& block, Visibility visibility, std::size_t chunk, std::size_t n_chunks,
                    Stopper& stopper) const override;
    void search(const QueryBlock& block, Visibility visibility, Stopper& stopper) const override;

 private:
    ByteMajorCodes codes_;
    EntryIds ids_;
    std::shared_ptr<const MappedFile> mapped_;
};

}  // namespace fasthash
