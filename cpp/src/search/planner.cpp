#include "search/planner.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "codes/arranged_codes.h"
#include "codes/code_bits.h"
#include "codes/k_majority.h"
#include "fasthash/threads.h"

namespace fasthash {
namespace {

constexpr std::size_t kNeighbours = 10;         // k of a sample query
constexpr std::size_t kSample = 16384;          // codes whose share within the searched radius is counted
constexpr std::size_t kSubstringSample = 4096;  // the same, for substrings: there are many shapes to compare
constexpr std::size_t kMostSubstrings = 16;
constexpr std::size_t kFewClusters = 32;

double bytes_allowed(const SortedCodes& codes, Memory memory) {
    return static_cast<double>(codes.n_entries() * codes.n_bytes()) * (memory == Memory::fast ? 6.0 : 2.0);
}

double bytes_of_tables(const SortedCodes& codes, std::size_t n_substrings, std::size_t substring_bits) {
    const auto n_rows = static_cast<double>(codes.n_rows());
    const double row_number = std::ceil(std::log2(n_rows + 1) / 8);
    const double directories = 4.0 * std::exp2(static_cast<double>(substring_bits)) * static_cast<double>(n_substrings);
    const double tables =
        n_rows * (static_cast<double>(codes.n_bytes()) + row_number) * static_cast<double>(n_substrings - 1);
    return static_cast<double>(codes.nbytes()) + directories + tables;
}

// Distinct numbers below n, evenly spaced.
std::vector<std::size_t> spread(std::size_t n, std::size_t wanted) {
    std::vector<std::size_t> numbers(std::min(n, wanted));
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = n * (2 * i + 1) / (2 * numbers.size());
    return numbers;
}

// Number of codes of the index that serve as sample queries. Queries differ much, but each is compared with all rows.
std::size_t n_sample_queries(std::size_t n_rows) {
    constexpr std::size_t kFewest = 24, kMost = 96, kCompared = 96 * 1000 * 1000;
    return std::clamp(kCompared / n_rows, kFewest, kMost);
}

// The rows of evenly spaced entries, so that frequent codes are sampled as often as they occur.
std::vector<std::size_t> sample_rows(const SortedCodes& codes, std::size_t wanted) {
    std::vector<std::size_t> rows = spread(codes.n_entries(), wanted);
    for (std::size_t& row : rows) row = codes.row_of(row);
    return rows;
}

// Computes the threshold of each sample query: the distance of its k-th neighbour, by a scan.
class NeighbourDistances final : private RowSink {
 public:
    static std::vector<std::int32_t> of(const SortedCodes& codes, const std::vector<std::size_t>& rows,
                                        Stopper& stopper) {
        std::vector<std::int32_t> thresholds(rows.size());
        parallel_for(rows.size(), [&](std::size_t i) {
            stopper.check();
            thresholds[i] = NeighbourDistances(codes).of(rows[i]);
        });
        return thresholds;
    }

 private:
    explicit NeighbourDistances(const SortedCodes& codes)
        : codes_(codes),
          entries_(codes, {}),
          nearest_({kNeighbours + 1}, codes.n_bytes() * 8) {}  // a code of the gallery finds itself

    std::int32_t of(std::size_t row) {
        const RowRange all{0, static_cast<std::uint32_t>(codes_.n_rows())};
        kernels().scan_rows(codes_.tails() + row * codes_.n_bytes(), codes_.tails(), codes_.n_bytes(), &all, 1,
                            nearest_.threshold(), *this);
        return nearest_.threshold();
    }
    std::int32_t take(const RowHit* hits, std::size_t n) override {
        for (std::size_t i = 0; i < n; ++i) entries_.push(hits[i].row, hits[i].distance, nearest_);
        return nearest_.largest_distance();
    }

    const SortedCodes& codes_;
    const DistinctEntries entries_;
    TopK nearest_;
};

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

// Number of n_bits-wide values within `radius` of a given one.
double values_within(std::size_t radius, std::size_t n_bits) {
    double n = 0, at_distance = 1;
    for (std::size_t d = 0; d <= std::min(radius, n_bits); ++d) {
        n += at_distance;
        at_distance = at_distance * static_cast<double>(n_bits - d) / static_cast<double>(d + 1);
    }
    return n;
}

// Rows that are among the k nearest when they are read: the i-th of n is with probability k / i.
double hits_among(double n, double k) { return n <= k ? n : k * (1 + std::log(n / k)); }

// Rows that hold the neighbours: fewer than these if codes have several entries.
double neighbour_rows(const SortedCodes& codes) {
    return std::max(1.0, kNeighbours * static_cast<double>(codes.n_rows()) / static_cast<double>(codes.n_entries()));
}

// Average cost of a search by substrings, from the number of sampled codes that it would read.
double cost_by_substrings(const SortedCodes& codes, std::size_t n_substrings, std::size_t substring_bits,
                          const std::vector<std::size_t>& queries, const std::vector<std::int32_t>& thresholds,
                          const std::vector<std::size_t>& sample) {
    const std::size_t n_bytes = codes.n_bytes();
    const double weight = static_cast<double>(codes.n_rows()) / static_cast<double>(sample.size());
    const ReadingCosts costs = reading_costs(bytes_of_tables(codes, n_substrings, substring_bits));
    double total = 0, all_read = 0;
    for (std::size_t substring = 0; substring < n_substrings; ++substring) {
        std::vector<std::uint32_t> values(sample.size());
        const auto value_of = [&](std::size_t row) {
            return code_bits(codes.tails() + row * n_bytes, n_bytes, substring * substring_bits, substring_bits);
        };
        for (std::size_t i = 0; i < sample.size(); ++i) values[i] = value_of(sample[i]);
        for (std::size_t q = 0; q < queries.size(); ++q) {
            // The search ends at the first (distance, substring) with n_substrings * distance + substring >= threshold.
            const auto threshold = static_cast<std::size_t>(thresholds[q]);
            const std::size_t last_distance = threshold / n_substrings, last_substring = threshold % n_substrings;
            if (substring > last_substring && last_distance == 0) continue;
            const std::size_t radius =
                std::min(substring <= last_substring ? last_distance : last_distance - 1, substring_bits);
            const double probes = values_within(radius, substring_bits);
            const std::uint32_t value = value_of(queries[q]);
            std::size_t n_read = 0;
            for (const std::uint32_t other : values) {
                n_read += count_bits(value ^ other) <= radius;
            }
            const double read = weight * static_cast<double>(n_read);
            total += probes * kCostOfProbe + std::min(probes, read) * costs.bucket +
                     read * static_cast<double>(n_bytes) * costs.bucket_byte;
            all_read += read;
        }
    }
    const auto n_queries = static_cast<double>(queries.size());
    // About twice as many hits are pushed: the threshold falls only after all hits of a kernel call.
    const double n_pushed = 2 * hits_among(all_read / n_queries, neighbour_rows(codes));
    return kCostOfQuery + (kCostOfHit + costs.push) * n_pushed + total / n_queries;
}

// Average cost of a search over clusters, from the number of sampled codes that it would compare.
double cost_by_clusters(const SortedCodes& codes, CodeView centroids, const std::vector<std::size_t>& queries,
                        const std::vector<std::int32_t>& thresholds, const std::vector<std::size_t>& sample) {
    const std::size_t n_bytes = codes.n_bytes(), n_rings = n_bytes * 8 + 1;
    const auto code_of = [&](std::size_t row) { return codes.tails() + row * n_bytes; };
    CentroidSearch search(centroids);
    std::vector<std::uint32_t> in_ring(centroids.n * n_rings);  // sampled codes of a cluster at a distance
    std::vector<Annulus> radii(centroids.n, Annulus{std::numeric_limits<std::int32_t>::max(), -1});
    for (const std::size_t row : sample) {
        const NearestCentroid nearest = search.nearest(code_of(row));
        ++in_ring[nearest.number * n_rings + nearest.distance];
        const auto distance = static_cast<std::int32_t>(nearest.distance);
        Annulus& of_cluster = radii[nearest.number];
        of_cluster = {std::min(of_cluster.first, distance), std::max(of_cluster.last, distance)};
    }
    // Clusters reach farther than their sampled codes: by this much, as distances spread with the square root of width.
    const auto farther = static_cast<std::int32_t>(std::lround(std::sqrt(static_cast<double>(n_bytes * 8)) / 4));
    std::vector<std::uint16_t> distances(centroids.n);
    double n_visited = 0, n_compared = 0;
    for (std::size_t q = 0; q < queries.size(); ++q) {
        kernels().distances(code_of(queries[q]), centroids.data, centroids.n, n_bytes, 0, distances.data());
        const std::int32_t least = *std::min_element(distances.begin(), distances.end());
        for (std::size_t c = 0; c < centroids.n; ++c) {
            const std::int32_t d = distances[c], threshold = thresholds[q];
            if ((d - least + 1) / 2 > threshold) continue;
            n_visited += d - threshold <= radii[c].last + farther && d + threshold >= radii[c].first - farther;
            const auto first = static_cast<std::size_t>(std::max(0, d - threshold));
            const auto last = std::min(n_rings - 1, static_cast<std::size_t>(d + threshold));
            std::uint32_t n = 0;
            for (std::size_t r = first; r <= last; ++r) n += in_ring[c * n_rings + r];
            n_compared += n;
        }
    }
    const auto n_queries = static_cast<double>(queries.size()), n_sampled = static_cast<double>(sample.size());
    const double weight = static_cast<double>(codes.n_rows()) / n_sampled;
    const ReadingCosts costs = reading_costs(static_cast<double>(codes.n_rows() * n_bytes));
    // The codes of a cluster lie by their distance to the centroid, so that the first of a large one are a poor sample:
    // the threshold falls late. Measured.
    constexpr double kSampled = 1024, kCostOfLateThreshold = 50;
    const double rows_each = static_cast<double>(codes.n_rows()) / static_cast<double>(centroids.n);
    const double late = kCostOfLateThreshold * neighbour_rows(codes) * std::log(std::max(1.0, rows_each / kSampled));
    const double of_centroid = static_cast<double>(n_bytes) * kInCache.bucket_byte + 2.3;
    return kCostOfQuery + late + static_cast<double>(centroids.n) * of_centroid +
           (n_visited * costs.visit + n_compared * weight * static_cast<double>(n_bytes) * costs.cluster_byte) /
               n_queries;
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

}  // namespace

PlanChoice choose_plan(const SortedCodes& codes, Memory memory, std::optional<Plan> wanted, Stopper& stopper) {
    PlanChoice scan{Plan::scan, 0, 0, cost_of_scan(codes.n_rows(), codes.n_bytes()), {}};
    const std::size_t n_bits = codes.n_bytes() * 8;
    if (wanted == Plan::scan || codes.n_rows() == 0) return scan;
    // Of so few codes another plan saves next to nothing.
    if (!wanted && memory != Memory::compact && kWorthwhile * scan.cost < kCostOfQuery) return scan;
    const std::vector<std::size_t> queries = sample_rows(codes, n_sample_queries(codes.n_rows()));
    const std::vector<std::size_t> sample = spread(codes.n_rows(), kSample);
    const std::vector<std::size_t> substring_sample = spread(codes.n_rows(), kSubstringSample);
    const std::vector<std::int32_t> thresholds = NeighbourDistances::of(codes, queries, stopper);
    const double worthwhile = worthwhile_cost(codes.n_rows(), codes.n_bytes());
    std::optional<PlanChoice> smallest;
    if (memory == Memory::compact && wanted.value_or(Plan::prefix) == Plan::prefix) {
        const std::size_t bytes = most_compact_prefix(codes);
        if (bytes > 0) {
            const double cost = cost_by_substrings(codes, 1, bytes * 8, queries, thresholds, substring_sample);
            if (wanted || cost < worthwhile) smallest = PlanChoice{Plan::prefix, 1, bytes * 8, cost, {}};
            if (wanted) return *std::move(smallest);
        }
    }

    // With more buckets than codes most lookups would find an empty bucket.
    const auto most_bits = std::clamp<std::size_t>(
        static_cast<std::size_t>(std::log2(static_cast<double>(codes.n_rows()))) + 1, 8, kMaxSubstringBits);

    PlanChoice best = std::move(scan);
    double least = wanted ? std::numeric_limits<double>::infinity() : worthwhile;
    const double allowed = bytes_allowed(codes, memory);
    const auto consider = [&](std::size_t n_substrings, std::size_t substring_bits) {
        const Plan plan = n_substrings == 1 ? Plan::prefix : Plan::multi_index;
        if (!wanted && memory == Memory::compact) return;
        if (wanted ? plan != *wanted : bytes_of_tables(codes, n_substrings, substring_bits) > allowed) return;
        stopper.check();
        const double cost =
            cost_by_substrings(codes, n_substrings, substring_bits, queries, thresholds, substring_sample);
        if (cost < least) {
            least = cost;
            best = {plan, n_substrings, substring_bits, cost, {}};
        }
    };
    for (std::size_t substring_bits = 8; substring_bits <= kMaxSubstringBits; substring_bits += 4) {
        if (substring_bits <= std::min(most_bits, n_bits)) consider(1, substring_bits);
    }
    for (std::size_t n_substrings = 2; n_substrings <= kMostSubstrings && n_bits / n_substrings >= 8; ++n_substrings) {
        // Shorter substrings read more codes, but have smaller directories.
        const std::size_t longest = std::min(most_bits, n_bits / n_substrings);
        for (std::size_t shorter = 0; shorter <= 4 && longest >= 8 + shorter; shorter += 2) {
            consider(n_substrings, longest - shorter);
        }
    }
    for (const std::size_t n_clusters : {kFewClusters, 4 * kFewClusters, 16 * kFewClusters}) {
        const bool cheap = are_cheap(n_clusters, codes.n_rows());
        if (wanted ? *wanted != Plan::clusters || (!cheap && n_clusters > kFewClusters) : !cheap) break;
        Array<std::uint8_t> centroids = centroids_of(codes, n_clusters, stopper);
        const CodeView view{centroids.data(), centroids.size() / codes.n_bytes(), codes.n_bytes()};
        const double cost = cost_by_clusters(codes, view, queries, thresholds, sample);
        if (cost < least || (wanted && best.plan == Plan::scan)) {
            least = cost;
            best = {Plan::clusters, 0, 0, cost, std::move(centroids)};
        }
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
