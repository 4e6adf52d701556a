// Searches bit-major codes by Jaccard distance.
//
// Called by search_jaccard. A block of codes is compared with a query unless the numbers of their bits set rule it out:
// codes with a and b bits set share at most min(a, b) of at least max(a, b) bits (Swamidass and Baldi, J. Chem. Inf.
// Model. 47, 2007).
#pragma once

#include "codes/bit_major_codes.h"
#include "codes/id_map.h"
#include "fasthash/search.h"
#include "platform/stopper.h"
#include "search/jaccard_topk.h"
#include "search/visibility.h"

namespace fasthash {

/// Queries that are searched together, in the order of their number of bits set.
class JaccardQueries {
 public:
    explicit JaccardQueries(CodeView queries);

    std::size_t n() const { return n_set_.size(); }
    std::size_t n_set(std::size_t q) const { return n_set_[q]; }
    /// The bits that query q sets.
    const std::uint16_t* bits(std::size_t q) const { return bits_.data() + first_[q]; }

 private:
    std::vector<std::size_t> n_set_;
    std::vector<std::size_t> first_;
    std::vector<std::uint16_t> bits_;
};

/// The codes of a segment. Ids and visibility must outlive it.
struct JaccardGallery {
    const BitMajorCodes& codes;
    const IdList& ids;
    Visibility visibility;
};

/// Push the near entries of every n_chunks-th block of codes, from the `chunk`-th on. Blocks are taken in the order of
/// their bound for the middle query. `nearest`, and `stats` unless null: one for each query.
void scan_jaccard(const JaccardGallery& gallery, const JaccardQueries& queries, std::size_t chunk, std::size_t n_chunks,
                  JaccardTopK* nearest, QueryStats* stats, Stopper& stopper);

}  // namespace fasthash
