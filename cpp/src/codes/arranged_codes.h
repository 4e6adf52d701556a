// Codes in an order other than that of their bytes: by id, for scans, or by clusters.
//
// Used by ArrangedSegment. In clusters, each code belongs to its nearest centroid, and the codes of a cluster are
// ordered by their distance to it, so that the triangle inequality bounds the distance of a query to a range of them.
#pragma once

#include "codes/byte_major_codes.h"
#include "codes/row_ids.h"
#include "codes/sorted_codes.h"
#include "platform/stopper.h"

namespace fasthash {

/// A range of distances to a centroid, both ends included; empty if first > last.
struct Annulus {
    std::int32_t first;
    std::int32_t last;

    bool empty() const { return first > last; }
};

class ArrangedCodes final : public GroupSource, public RowIds {
 public:
    /// Whether codes should be arranged by id: few of them are duplicates, and the arranging takes little time and
    /// memory.
    static bool suits_order_of_ids(const SortedCodes& sorted);
    /// Arrange codes by id, with a row for each entry, so that ids ascend; consecutive ids are not stored. All
    /// constructors throw Interrupted when `stopper` ends the work.
    ArrangedCodes(SortedCodes sorted, Stopper& stopper);
    /// Arrange codes around centroids: rows, at least one.
    ArrangedCodes(SortedCodes sorted, Array<std::uint8_t> centroids, Stopper& stopper);
    /// Clusters from a file, checked by the caller.
    ArrangedCodes(ByteMajorCodes codes, RowIds ids, Array<std::uint8_t> centroids, Array<std::uint32_t> ring_begin);

    std::size_t size() const override { return n_rows(); }
    std::size_t n_bytes() const override { return codes_.n_bytes(); }
    const std::uint8_t* groups(std::size_t first, std::size_t n, Array<std::uint8_t>& scratch) const override {
        return codes_.groups(first, n, scratch);
    }
    std::size_t nbytes() const {
        return codes_.nbytes() + centroids_.nbytes() + ring_begin_.nbytes() + nbytes_of_ids();
    }
    /// Codes begin .. begin + n as rows.
    void copy_rows(std::size_t begin, std::size_t n, std::uint8_t* rows) const { codes_.copy_rows(begin, n, rows); }
    /// Whether ids ascend in the order of the entries.
    bool ids_ascend() const { return centroids_.empty(); }

    /// The centroids of the clusters; none if the codes are arranged by id.
    CodeView centroids() const { return {centroids_.data(), centroids_.size() / n_bytes(), n_bytes()}; }
    /// For each cluster its first row at each distance from 0 to n_bits, then the number of rows.
    const Array<std::uint32_t>& ring_begin() const { return ring_begin_; }
    const ByteMajorCodes& codes() const { return codes_; }
    /// The smallest and the largest distance of a code of this cluster to its centroid.
    Annulus radii(std::size_t cluster) const { return radii_[cluster]; }
    /// The rows of a cluster whose distance to the centroid lies in the annulus.
    NumberRange rows(std::size_t cluster, Annulus annulus) const {
        const std::uint32_t* begin = ring_begin_.data() + cluster * n_rings();
        return {begin[annulus.first], begin[annulus.last + 1]};
    }

 private:
    std::size_t n_rings() const { return n_bytes() * 8 + 1; }
    void find_radii();
    void copy_codes(const SortedCodes& sorted, const PackedNumbers& row_at, Stopper& stopper);

    ByteMajorCodes codes_;
    Array<std::uint8_t> centroids_;
    std::vector<Annulus> radii_;
    Array<std::uint32_t> ring_begin_;  // n_rings() for each cluster, and the number of rows
};

}  // namespace fasthash
