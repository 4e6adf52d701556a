#include "search/jaccard_scan.h"

#include <algorithm>

namespace fasthash {
namespace {

// Fewest and most bits set in a code of each block.
struct Counts {
    std::size_t fewest;
    std::size_t most;
};

std::vector<Counts> counts_of(const BitMajorCodes& codes) {
    std::vector<Counts> counts(codes.n_blocks());
    for (std::size_t b = 0; b < counts.size(); ++b) {
        const NumberRange range = codes.codes_of(b);
        counts[b] = {codes.n_set(range.begin), codes.n_set(range.end - 1)};
    }
    return counts;
}

// Numbers of the blocks, the most similar first for a query with n_set bits set.
std::vector<std::size_t> by_bound(const std::vector<Counts>& counts, std::size_t n_set) {
    // Blocks before `above` have codes with fewer bits set than the query, or as many.
    std::size_t above = 0;
    while (above < counts.size() && counts[above].fewest <= n_set) ++above;
    std::vector<std::size_t> order;
    order.reserve(counts.size());
    for (std::size_t below = above; below > 0 || above < counts.size();) {
        // Bounds of the similarity: most / n_set below, n_set / fewest above.
        const bool take_above =
            below == 0 || (above < counts.size() && counts[below - 1].most * counts[above].fewest < n_set * n_set);
        order.push_back(take_above ? above++ : --below);
    }
    return order;
}

// Compares queries with a block of codes.
class BlockComparison {
 public:
    BlockComparison(const JaccardGallery& gallery, std::size_t block, Counts counts)
        : gallery_(gallery), range_(gallery.codes.codes_of(block)), counts_(counts) {
        scan_.planes = gallery.codes.planes_of(block);
        scan_.n_words = gallery.codes.n_words(block);
        scan_.found = found_;
        scan_.sums = sums_;
    }

    /// False if the bound rules out all codes.
    bool run(const std::uint16_t* bits, std::size_t n_set, JaccardTopK& nearest) {
        scan_.least = nearest.threshold().least_shared(n_set + counts_.fewest);
        if (scan_.least > std::min(n_set, counts_.most)) return false;
        scan_.bits = bits;
        scan_.n_set = n_set;
        if (!kernels().count_shared(scan_)) return true;
        for (std::size_t w = 0; w < scan_.n_words; ++w) {
            for (std::uint64_t codes = found_[w] & wanted(w); codes != 0; codes &= codes - 1) {
                push(w, static_cast<unsigned>(__builtin_ctzll(codes)), nearest);
            }
        }
        return true;
    }

 private:
    // The codes of a word that exist and have not been removed.
    std::uint64_t wanted(std::size_t w) const {
        const std::size_t begin = range_.begin + w * 64;
        const std::uint64_t real = ~std::uint64_t{0} >> (64 - std::min<std::size_t>(64, range_.end - begin));
        const EntrySet* live = gallery_.visibility.live;
        return live == nullptr ? real : real & live->word(begin / 64);
    }
    void push(std::size_t w, unsigned bit, JaccardTopK& nearest) const {
        std::size_t shared = 0;
        for (std::size_t digit = 0; scan_.n_set >> digit != 0; ++digit) {
            shared |= static_cast<std::size_t>(sums_[digit * kPlaneWords + w] >> bit & 1) << digit;
        }
        const std::size_t code = range_.begin + w * 64 + bit;
        const std::size_t n_set = counts_.fewest == counts_.most ? counts_.most : gallery_.codes.n_set(code);
        // The minimum matters in a file alone that was loaded unchecked and lies about its codes.
        const JaccardDistance distance = JaccardDistance::of(scan_.n_set, n_set, std::min(shared, n_set));
        if (nearest.threshold() < distance) return;
        const std::int64_t id = gallery_.ids.id(code);
        const IdFilter* filter = gallery_.visibility.filter;
        if (filter == nullptr || filter->contains(id)) nearest.push(distance, id);
    }

    const JaccardGallery& gallery_;
    const NumberRange range_;
    const Counts counts_;
    PlaneScan scan_{};
    std::uint64_t found_[kPlaneWords];
    std::uint64_t sums_[kSumDigits * kPlaneWords];
};

}  // namespace

JaccardQueries::JaccardQueries(CodeView queries) {
    for (std::size_t q = 0; q < queries.n; ++q) {
        first_.push_back(bits_.size());
        for (std::size_t b = 0; b < queries.n_bytes; ++b) {
            for (unsigned bit = 0; bit < 8; ++bit) {
                if ((queries.row(q)[b] >> (7 - bit) & 1) != 0) bits_.push_back(static_cast<std::uint16_t>(b * 8 + bit));
            }
        }
        n_set_.push_back(bits_.size() - first_.back());
    }
}

void scan_jaccard(const JaccardGallery& gallery, const JaccardQueries& queries, std::size_t chunk, std::size_t n_chunks,
                  JaccardTopK* nearest, QueryStats* stats, Stopper& stopper) {
    constexpr std::size_t kFewQueries = 8;  // so few read planes of their own, which no other query has read before
    const std::vector<Counts> counts = counts_of(gallery.codes);
    const std::vector<std::size_t> order = by_bound(counts, queries.n_set(queries.n() / 2));
    for (std::size_t i = chunk; i < order.size() && !stopper.stopped(); i += n_chunks) {
        const std::size_t block = order[i];
        const std::size_t next = i + n_chunks < order.size() ? order[i + n_chunks] : block;
        BlockComparison comparison(gallery, block, counts[block]);
        for (std::size_t q = 0; q < queries.n(); ++q) {
            if (queries.n() <= kFewQueries) {
                for (std::size_t j = 0; j < queries.n_set(q); ++j) {
                    __builtin_prefetch(gallery.codes.planes_of(next) +
                                       queries.bits(q)[j] * gallery.codes.n_words(next));
                }
            }
            if (!comparison.run(queries.bits(q), queries.n_set(q), nearest[q])) continue;
            if (stats != nullptr)
                stats[q].codes_compared += static_cast<std::int64_t>(gallery.codes.codes_of(block).size());
        }
    }
}

}  // namespace fasthash
