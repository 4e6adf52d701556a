#include "search/plan_costs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "codes/arranged_codes.h"
#include "codes/code_bits.h"
#include "codes/k_majority.h"
#include "fasthash/threads.h"
#include "fasthash/topk.h"
#include "search/row_entries.h"
#include "search/search_cost.h"

namespace fasthash {
namespace {

constexpr std::size_t kNeighbours = 10;  // of a sample query
constexpr std::size_t kSample = 16384, kSmallSample = 4096;

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

// Rows that are among the k nearest when they are read: the i-th of n is with probability k / i.
double hits_among(double n, double k) { return n <= k ? n : k * (1 + std::log(n / k)); }

}  // namespace

PlanCosts::PlanCosts(const SortedCodes& codes, Stopper& stopper)
    : codes_(codes),
      queries_(sample_rows(codes, n_sample_queries(codes.n_rows()))),
      thresholds_(NeighbourDistances::of(codes, queries_, stopper)),
      sample_(spread(codes.n_rows(), kSample)),
      small_sample_(spread(codes.n_rows(), kSmallSample)),
      neighbour_rows_(
          std::max(1.0, kNeighbours * static_cast<double>(codes.n_rows()) / static_cast<double>(codes.n_entries()))) {}

double PlanCosts::by_substrings(std::size_t n_substrings, std::size_t substring_bits) const {
    const std::size_t n_bytes = codes_.n_bytes();
    const double weight = static_cast<double>(codes_.n_rows()) / static_cast<double>(small_sample_.size());
    const ReadingCosts costs = reading_costs(bytes_of_tables(codes_, n_substrings, substring_bits));
    double total = 0, all_read = 0;
    for (std::size_t substring = 0; substring < n_substrings; ++substring) {
        std::vector<std::uint32_t> values(small_sample_.size());
        const auto value_of = [&](std::size_t row) {
            return code_bits(code_of(row), n_bytes, substring * substring_bits, substring_bits);
        };
        for (std::size_t i = 0; i < small_sample_.size(); ++i) values[i] = value_of(small_sample_[i]);
        for (std::size_t q = 0; q < queries_.size(); ++q) {
            // The search ends at the first (distance, substring) with n_substrings * distance + substring >= threshold.
            const auto threshold = static_cast<std::size_t>(thresholds_[q]);
            const std::size_t last_distance = threshold / n_substrings, last_substring = threshold % n_substrings;
            if (substring > last_substring && last_distance == 0) continue;
            const std::size_t radius =
                std::min(substring <= last_substring ? last_distance : last_distance - 1, substring_bits);
            const double probes = values_within(radius, substring_bits);
            const std::uint32_t value = value_of(queries_[q]);
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
    const auto n_queries = static_cast<double>(queries_.size());
    // About twice as many hits are pushed: the threshold falls only after all hits of a kernel call.
    const double n_pushed = 2 * hits_among(all_read / n_queries, neighbour_rows_);
    return kCostOfQuery + (kCostOfHit + costs.push) * n_pushed + total / n_queries;
}

double PlanCosts::by_clusters(CodeView centroids) const {
    const std::size_t n_bytes = codes_.n_bytes(), n_rings = n_bytes * 8 + 1;
    CentroidSearch search(centroids);
    std::vector<std::uint32_t> in_ring(centroids.n * n_rings);  // sampled codes of a cluster at a distance
    std::vector<Annulus> radii(centroids.n, Annulus{std::numeric_limits<std::int32_t>::max(), -1});
    for (const std::size_t row : sample_) {
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
    for (std::size_t q = 0; q < queries_.size(); ++q) {
        kernels().distances(code_of(queries_[q]), centroids.data, centroids.n, n_bytes, 0, distances.data());
        const std::int32_t least = *std::min_element(distances.begin(), distances.end());
        for (std::size_t c = 0; c < centroids.n; ++c) {
            const std::int32_t d = distances[c], threshold = thresholds_[q];
            if ((d - least + 1) / 2 > threshold) continue;
            n_visited += d - threshold <= radii[c].last + farther && d + threshold >= radii[c].first - farther;
            const auto first = static_cast<std::size_t>(std::max(0, d - threshold));
            const auto last = std::min(n_rings - 1, static_cast<std::size_t>(d + threshold));
            std::uint32_t n = 0;
            for (std::size_t r = first; r <= last; ++r) n += in_ring[c * n_rings + r];
            n_compared += n;
        }
    }
    const auto n_queries = static_cast<double>(queries_.size()), n_sampled = static_cast<double>(sample_.size());
    const double weight = static_cast<double>(codes_.n_rows()) / n_sampled;
    const ReadingCosts costs = reading_costs(static_cast<double>(codes_.n_rows() * n_bytes));
    // The codes of a cluster lie by their distance to the centroid, so that the first of a large one are a poor sample:
    // the threshold falls late. Measured.
    constexpr double kSampled = 1024, kCostOfLateThreshold = 50;
    const double rows_each = static_cast<double>(codes_.n_rows()) / static_cast<double>(centroids.n);
    const double late = kCostOfLateThreshold * neighbour_rows_ * std::log(std::max(1.0, rows_each / kSampled));
    const double of_centroid = static_cast<double>(n_bytes) * kInCache.bucket_byte + 2.3;
    return kCostOfQuery + late + static_cast<double>(centroids.n) * of_centroid +
           (n_visited * costs.visit + n_compared * weight * static_cast<double>(n_bytes) * costs.cluster_byte) /
               n_queries;
}

double bytes_of_tables(const SortedCodes& codes, std::size_t n_substrings, std::size_t substring_bits) {
    const auto n_rows = static_cast<double>(codes.n_rows());
    const double row_number = std::ceil(std::log2(n_rows + 1) / 8);
    const double directories = 4.0 * std::exp2(static_cast<double>(substring_bits)) * static_cast<double>(n_substrings);
    const double tables =
        n_rows * (static_cast<double>(codes.n_bytes()) + row_number) * static_cast<double>(n_substrings - 1);
    return static_cast<double>(codes.nbytes()) + directories + tables;
}

double values_within(std::size_t radius, std::size_t n_bits) {
    double n = 0, at_distance = 1;
    for (std::size_t d = 0; d <= std::min(radius, n_bits); ++d) {
        n += at_distance;
        at_distance = at_distance * static_cast<double>(n_bits - d) / static_cast<double>(d + 1);
    }
    return n;
}

std::vector<std::size_t> spread(std::size_t n, std::size_t wanted) {
    std::vector<std::size_t> numbers(std::min(n, wanted));
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = n * (2 * i + 1) / (2 * numbers.size());
    return numbers;
}

}  // namespace fasthash
