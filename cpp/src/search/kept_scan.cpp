#include "search/kept_scan.h"

#include <algorithm>

namespace fasthash {
namespace {

// Codes that stay in the second-level cache while all queries are compared with them.
constexpr std::size_t kChunkBytes = 128 * 1024;

}  // namespace

template <typename Totals>
KeptScan<Totals>::KeptScan(const SortedCodes& codes, const LevelLayout& layout, bool by_level, const QueryBlock& block)
    : codes_(codes),
      entries_(codes, {}),
      layout_(layout),
      by_level_(by_level),
      block_(block),
      stride_(codes.n_bytes() * kernels().prepared_bytes),
      prepared_(block.queries.n * stride_) {
    for (std::size_t q = 0; q < block.queries.n; ++q) {
        kernels().prepare(block.queries.row(q), codes.n_bytes(), prepared_.data() + q * stride_);
    }
}

template <typename Totals>
void KeptScan<Totals>::run(const std::vector<KeptRows>& wanted, Stopper& stopper) {
    std::vector<const NumberRange*> next;  // for each query, its first range that ends after the last chunk
    for (const KeptRows& each : wanted) next.push_back(each.groups.data());
    const std::size_t per_chunk = std::max<std::size_t>(1, kChunkBytes / (kGroup * codes_.n_bytes()));
    for (std::size_t first = 0; first < codes_.n_groups() && !stopper.stopped(); first += per_chunk) {
        const NumberRange in_chunk{first, std::min(first + per_chunk, codes_.n_groups())};
        const std::uint8_t* chunk = nullptr;
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            const NumberRange* const end = wanted[i].groups.data() + wanted[i].groups.size();
            for (; next[i] != end && next[i]->begin < in_chunk.end; ++next[i]) {
                if (chunk == nullptr) chunk = codes_.groups(first, in_chunk.size(), scratch_);
                const NumberRange groups{std::max(next[i]->begin, first), std::min(next[i]->end, in_chunk.end)};
                compare(wanted[i], groups, chunk + (groups.begin - first) * kGroup * codes_.n_bytes());
                if (next[i]->end > in_chunk.end) break;
            }
        }
    }
}

template <typename Totals>
void KeptScan<Totals>::compare(const KeptRows& wanted, NumberRange groups, const std::uint8_t* chunk) {
    if (groups.begin >= groups.end) return;
    wanted_ = &wanted;
    first_group_ = groups.begin;
    groups_ = chunk;
    threshold_ = static_cast<std::uint16_t>(block_.nearest[wanted.query].largest_distance() + 1);
    constexpr std::uint32_t kFirst = 0;  // of a block of one
    kernels().scan_groups(
        {prepared(wanted.query), &kFirst, 1, &threshold_, chunk, groups.size(), codes_.n_bytes(), this});
}

// Bit i: row i of the group is below kept nodes, and was not compared before.
template <typename Totals>
std::uint64_t KeptScan<Totals>::kept_rows(std::size_t group) const {
    typename Totals::Value totals[kGroup];
    Totals::scan({prepared(wanted_->query), groups_ + group * kGroup * codes_.n_bytes(), 1, codes_.n_bytes(), layout_,
                  wanted_->cuts.size(), wanted_->cuts.data(), by_level_},
                 totals);
    std::uint64_t rows = 0;
    for (std::size_t i = 0; i < kGroup; ++i) {
        const bool kept = totals[i] != Totals::kDropped && totals[i] >= wanted_->first_total;
        rows |= std::uint64_t{kept} << i;
    }
    return rows;
}

template <typename Totals>
void KeptScan<Totals>::take(std::size_t, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) {
    TopK& nearest = block_.nearest[wanted_->query];
    const std::size_t first_row = (first_group_ + group) * kGroup;
    const std::int32_t largest = nearest.largest_distance(codes_.least_id(first_group_ + group));
    // Many codes may tie at the k-th distance: skip the groups whose ids are all too large to enter.
    if (largest + 1 < threshold_) {
        for (std::size_t i = 0; i < kGroup; ++i) {
            if (distances[i] > largest) rows &= ~(std::uint64_t{1} << i);
        }
        if (rows == 0) return;
    }
    if (first_row + kGroup > codes_.n_rows()) rows &= ~std::uint64_t{0} >> (first_row + kGroup - codes_.n_rows());
    for (rows &= kept_rows(group); rows != 0; rows &= rows - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
        entries_.push(first_row + i, distances[i], nearest);
    }
    threshold_ = static_cast<std::uint16_t>(nearest.largest_distance() + 1);
}

template class KeptScan<NarrowTotals>;
template class KeptScan<WideTotals>;

}  // namespace fasthash
