#include "search/planner.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "codes/k_majority.h"
#include "fasthash/threads.h"
#include "search/plan_costs.h"

namespace fasthash {
namespace {

struct Shape {
    std::size_t n_substrings;
    std::size_t substring_bits;
};

// Shapes of tables that may pay.
std::vector<Shape> shapes_of_tables(std::size_t n_rows, std::size_t n_bits) {
    constexpr std::size_t kMostSubstrings = 16;
    // With more buckets than codes most lookups would find an empty bucket.
    const auto most_bits = std::clamp<std::size_t>(static_cast<std::size_t>(std::log2(static_cast<double>(n_rows))) + 1,
                                                   8, kMaxSubstringBits);
    std::vector<Shape> shapes;
    for (std::size_t substring_bits = 8; substring_bits <= std::min(most_bits, n_bits); substring_bits += 4) {
        shapes.push_back({1, substring_bits});
    }
    for (std::size_t n_substrings = 2; n_substrings <= kMostSubstrings && n_bits / n_substrings >= 8; ++n_substrings) {
        // Shorter substrings read more codes, but have smaller directories.
        const std::size_t longest = std::min(most_bits, n_bits / n_substrings);
        for (std::size_t shorter = 0; shorter <= 4 && longest >= 8 + shorter; shorter += 2) {
            shapes.push_back({n_substrings, longest - shorter});
        }
    }
    return shapes;
}

double bytes_allowed(const SortedCodes& codes, Memory memory) {
    return static_cast<double>(codes.n_entries() * codes.n_bytes()) * (memory == Memory::fast ? 6.0 : 2.0);
}

// Number of prefix bytes that a directory should imply, for the smallest index; 0 if none pays.
std::size_t most_compact_prefix(const SortedCodes& codes) {
    std::size_t best = 0;
    double least = static_cast<double>(codes.n_rows() * codes.n_bytes());
    for (std::size_t n = 1; n < codes.n_bytes() && n * 8 <= kMaxSubstringBits; ++n) {
        const double bytes =
            static_cast<double>(codes.n_rows() * (codes.n_bytes() - n)) + 4.0 * std::exp2(8.0 * static_cast<double>(n));
        if (bytes < least) {
            least = bytes;
            best = n;
        }
    }
    return best;
}

constexpr std::size_t kFewClusters = 32;

// Whether these clusters are large enough to pay, and can be built in little time: comparing codes with a few centroids
// takes less than sorting them.
bool are_cheap(std::size_t n_clusters, std::size_t n_rows) {
    constexpr std::size_t kFewestRows = 200;  // in a cluster
    constexpr std::size_t kFewCentroids = 128;
    constexpr std::size_t kMostComparisons = 1500 * 1000 * 1000;  // with more of them: half a second on two cores
    if (n_clusters * kFewestRows > n_rows) return false;
    return n_clusters <= kFewCentroids || n_clusters <= kMostComparisons / n_rows;
}

Array<std::uint8_t> centroids_of(const SortedCodes& codes, std::size_t n_clusters, Stopper& stopper) {
    const std::size_t n_bytes = codes.n_bytes();
    const std::vector<std::size_t> rows = spread(codes.n_rows(), std::max<std::size_t>(8192, 32 * n_clusters));
    Array<std::uint8_t> sample;
    for (const std::size_t row : rows) sample.append(codes.tails() + row * n_bytes, n_bytes);
    return k_majority({sample.data(), rows.size(), n_bytes}, n_clusters, stopper);
}

}  // namespace

PlanChoice choose_plan(const SortedCodes& codes, Memory memory, std::optional<Plan> wanted, Stopper& stopper) {
    PlanChoice best{Plan::scan, 0, 0, cost_of_scan(codes.n_rows(), codes.n_bytes()), {}};
    if (wanted == Plan::scan || codes.n_rows() == 0) return best;
    // Of so few codes another plan saves next to nothing.
    if (!wanted && memory != Memory::compact && kWorthwhile * best.cost < kCostOfQuery) return best;
    const PlanCosts costs(codes, stopper);
    double least = wanted ? std::numeric_limits<double>::infinity() : worthwhile_cost(codes.n_rows(), codes.n_bytes());

    std::optional<PlanChoice> smallest;
    if (memory == Memory::compact && wanted.value_or(Plan::prefix) == Plan::prefix) {
        const std::size_t n_bits = 8 * most_compact_prefix(codes);
        if (n_bits > 0) {
            PlanChoice choice{Plan::prefix, 1, n_bits, costs.by_substrings(1, n_bits), {}};
            if (wanted) return choice;
            if (choice.cost < least) smallest = std::move(choice);
        }
    }
    const auto may_have = [&](Plan plan, std::size_t n_substrings, std::size_t substring_bits) {
        if (wanted) return plan == *wanted;
        if (memory == Memory::compact) return false;
        return bytes_of_tables(codes, n_substrings, substring_bits) <= bytes_allowed(codes, memory);
    };
    for (const auto& [n_substrings, substring_bits] : shapes_of_tables(codes.n_rows(), codes.n_bytes() * 8)) {
        const Plan plan = n_substrings == 1 ? Plan::prefix : Plan::multi_index;
        if (!may_have(plan, n_substrings, substring_bits)) continue;
        stopper.check();
        const double cost = costs.by_substrings(n_substrings, substring_bits);
        if (cost >= least) continue;
        least = cost;
        best = {plan, n_substrings, substring_bits, cost, {}};
    }
    for (const std::size_t n_clusters : {kFewClusters, 4 * kFewClusters, 16 * kFewClusters}) {
        const bool cheap = are_cheap(n_clusters, codes.n_rows());
        if (wanted ? *wanted != Plan::clusters || (!cheap && n_clusters > kFewClusters) : !cheap) break;
        Array<std::uint8_t> centroids = centroids_of(codes, n_clusters, stopper);
        const double cost = costs.by_clusters({centroids.data(), centroids.size() / codes.n_bytes(), codes.n_bytes()});
        // Tables take about twice the memory of clusters, so that they must be worth it.
        const bool saves_memory = memory == Memory::standard && best.plan == Plan::multi_index;
        if ((saves_memory ? kWorthwhile * cost : cost) >= least) continue;
        least = cost;
        best = {Plan::clusters, 0, 0, cost, std::move(centroids)};
    }
    // The smallest index may take several times as long: memory is what was asked for.
    constexpr double kMostTimes = 8;
    if (smallest && smallest->cost < kMostTimes * best.cost) return *std::move(smallest);
    return best;
}

PlanChoice plan_of_mapped(std::size_t n, std::size_t n_bytes) {
    if (n == 0) return {Plan::scan, 0, 0, 0, {}};
    // A process that maps a file without a directory has its own: at most 4 MiB, or 1/16 of the codes if that is more.
    const auto n_rows = static_cast<double>(n), bytes = n_rows * static_cast<double>(n_bytes);
    const double most_bits = std::max(20.0, std::log2(bytes / 64));
    const auto bits = static_cast<std::size_t>(std::min(std::log2(n_rows), most_bits));
    const std::size_t substring_bits = std::min(std::clamp<std::size_t>(bits, 8, kMaxSubstringBits), n_bytes * 8);
    // Nothing is known of the codes: a search looks up, gives up, and scans the rows.
    const double cost = worthwhile_cost(n, n_bytes) + reading_costs(bytes).row_byte * bytes;
    return {Plan::prefix, 1, substring_bits, cost, {}};
}

bool scan_pays(std::size_t n_codes, std::size_t n_bytes, std::size_t n_queries, double plan_cost) {
    if (n_queries < kFewestForScan) return false;
    const double transposing = kCostOfTransposing / static_cast<double>(std::min<std::size_t>(n_queries, 512));
    return kCostOfQuery + kCostOfSortedRows +
               (cost_of_byte_in_cache() + transposing) * static_cast<double>(n_codes * n_bytes) <
           plan_cost;
}

bool radius_needs_scan(const PlanChoice& choice, std::int32_t radius, std::size_t n_codes, std::size_t n_bytes) {
    // All substrings are searched at least up to substring_radius - 1.
    const std::size_t substring_radius = static_cast<std::size_t>(radius) / choice.n_substrings;
    if (substring_radius == 0) return false;
    const double probes =
        values_within(substring_radius - 1, choice.substring_bits) * static_cast<double>(choice.n_substrings);
    return kCostOfQuery + probes * kCostOfProbe > worthwhile_cost(n_codes, n_bytes);
}

std::unique_ptr<SubstringIndex> carry_out(const PlanChoice& choice, SortedCodes codes, Memory memory,
                                          Stopper& stopper) {
    auto index = std::make_unique<SubstringIndex>(std::move(codes));
    SortedCodes& sorted = index->sorted;
    if (choice.plan == Plan::scan) {
        sorted.hold_byte_major();
        return index;
    }
    sorted.add_directory(choice.substring_bits);
    index->tables.resize(choice.n_substrings - 1);
    parallel_for(index->tables.size(), [&](std::size_t i) {
        index->tables[i] =
            make_substring_table(sorted, (i + 1) * choice.substring_bits, choice.substring_bits, stopper);
    });
    if (memory == Memory::compact && choice.plan == Plan::prefix && choice.substring_bits < sorted.n_bytes() * 8 &&
        choice.substring_bits % 8 == 0) {
        sorted.drop_prefix(choice.substring_bits / 8);
    }
    return index;
}

}  // namespace fasthash
