#include "io/cluster_checks.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "fasthash/threads.h"
#include "io/id_checks.h"

namespace fasthash {
namespace {

constexpr std::size_t kPiece = 4096;  // rows that a thread checks at a time

// The centroids that can be nearer to a code of one cluster than its own: by the triangle inequality, those within
// twice the code's distance to it.
class NearCentroids {
 public:
    explicit NearCentroids(CodeView centroids)
        : centroids_(centroids), distances_(centroids.n), begin_(centroids.n_bytes * 8 + 2), own_(centroids.n) {}

    void choose(std::size_t cluster) {
        if (cluster == own_) return;
        own_ = cluster;
        const std::size_t n = centroids_.n, n_bytes = centroids_.n_bytes;
        kernels().distances(centroids_.row(cluster), centroids_.data, n, n_bytes, 0, distances_.data());
        std::fill(begin_.begin(), begin_.end(), 0);  // a counting sort by distance
        for (std::size_t c = 0; c < n; ++c) ++begin_[distances_[c] + 1];
        for (std::size_t d = 1; d < begin_.size(); ++d) begin_[d] += begin_[d - 1];
        numbers_.resize(n);
        codes_.resize(n * n_bytes);
        for (std::size_t c = 0; c < n; ++c) {
            const std::size_t at = begin_[distances_[c]]++;  // begin_[d] becomes the end of distance d
            numbers_[at] = static_cast<std::uint32_t>(c);
            std::memcpy(codes_.data() + at * n_bytes, centroids_.row(c), n_bytes);
        }
    }
    /// Whether the chosen centroid is the nearest to this code, at this distance.
    bool owns(const std::uint8_t* code, std::size_t distance) {
        const std::size_t n = begin_[std::min(2 * distance, begin_.size() - 2)];
        kernels().distances(code, codes_.data(), n, centroids_.n_bytes, 0, distances_.data());
        bool is_nearest = true, at_distance = false;
        for (std::size_t i = 0; i < n; ++i) {
            // Of several nearest, the first has the code.
            is_nearest &= distances_[i] >= distance + (numbers_[i] < own_ ? 1 : 0);
            at_distance |= numbers_[i] == own_ && distances_[i] == distance;
        }
        return is_nearest && at_distance;
    }

 private:
    const CodeView centroids_;
    Array<std::uint16_t> distances_;
    std::vector<std::size_t> begin_;  // of the centroids at each distance
    std::size_t own_;
    Array<std::uint32_t> numbers_;  // of the centroids, by distance to the own one
    Array<std::uint8_t> codes_;
};

}  // namespace

void check_division(const Array<std::uint32_t>& begin, std::size_t n_rows, const char* what) {
    // Millions of numbers are checked whenever a mapped file is opened: without branches, in vectors.
    std::uint32_t descents = 0;
    for (std::size_t i = 1; i < begin.size(); ++i) descents |= begin[i] < begin[i - 1] ? 1u : 0u;
    if (descents != 0) refuse(std::string(what) + " do not ascend");
    if (begin[0] != 0 || begin.back() != n_rows) refuse(std::string(what) + " do not divide the codes");
}

void check_clusters(const ByteMajorCodes& codes, CodeView centroids, const Array<std::uint32_t>& ring_begin) {
    const std::size_t n_rows = codes.size(), n_bytes = codes.n_bytes(), n_rings = n_bytes * 8 + 1;
    parallel_for((n_rows + kPiece - 1) / kPiece, [&](std::size_t piece) {
        const std::size_t begin = piece * kPiece, end = std::min(n_rows, begin + kPiece);
        const std::size_t first = begin == 0 ? 0 : begin - 1;
        Array<std::uint8_t> rows((end - first) * n_bytes);
        codes.copy_rows(first, end - first, rows.data());
        NearCentroids near(centroids);
        // The ring of a row is the last one that begins at or before it.
        const std::uint32_t* ring = std::upper_bound(ring_begin.begin(), ring_begin.end(), begin) - 1;
        for (std::size_t row = begin; row < end; ++row) {
            while (ring[1] <= row) ++ring;
            const std::uint8_t* code = rows.data() + (row - first) * n_bytes;
            const auto number = static_cast<std::size_t>(ring - ring_begin.begin());
            near.choose(number / n_rings);
            if (!near.owns(code, number % n_rings)) {
                refuse("code of row " + std::to_string(row) + " is not in the cluster and ring where it belongs");
            }
            if (row > *ring && std::memcmp(code - n_bytes, code, n_bytes) >= 0) {
                refuse("codes are out of order at row " + std::to_string(row));
            }
        }
    });
}

}  // namespace fasthash
