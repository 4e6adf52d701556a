#include "codes/k_majority.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "fasthash/threads.h"
#include "kernels/kernels.h"
#include "platform/number_range.h"

namespace fasthash {
namespace {

constexpr std::size_t kRounds = 5;  // of assigning codes and moving centroids
constexpr std::size_t kChunks = 16;

// SplitMix64 (Steele, Lea and Flood 2014).
class Random {
 public:
    std::uint64_t below(std::uint64_t n) {
        std::uint64_t x = state_ += 0x9e3779b97f4a7c15;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
        x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
        return (x ^ (x >> 31)) % n;
    }

 private:
    std::uint64_t state_ = 0;
};

// The first centroids, by k-means++ (Arthur and Vassilvitskii 2007): each is a code of the sample, drawn with a
// probability that grows with the square of its distance to the nearest centroid so far.
Array<std::uint8_t> first_centroids(CodeView sample, std::size_t n_clusters, Stopper& stopper) {
    Array<std::uint8_t> centroids;
    Array<std::uint16_t> nearest(sample.n), distances(sample.n);
    std::fill(nearest.begin(), nearest.end(), UINT16_MAX);
    Random random;
    std::size_t chosen = random.below(sample.n);
    while (true) {
        stopper.check();
        centroids.append(sample.row(chosen), sample.n_bytes);
        if (centroids.size() == n_clusters * sample.n_bytes) return centroids;
        kernels().distances(sample.row(chosen), sample.data, sample.n, sample.n_bytes, 0, distances.data());
        std::uint64_t total = 0;
        for (std::size_t i = 0; i < sample.n; ++i) {
            nearest[i] = std::min(nearest[i], distances[i]);
            total += std::uint64_t{nearest[i]} * nearest[i];
        }
        if (total == 0) return centroids;  // every code of the sample is a centroid
        std::uint64_t drawn = random.below(total);
        for (chosen = 0; drawn >= std::uint64_t{nearest[chosen]} * nearest[chosen]; ++chosen) {
            drawn -= std::uint64_t{nearest[chosen]} * nearest[chosen];
        }
    }
}

// Moves each centroid to the majority of its codes; ties and centroids without codes keep their bits.
void move_centroids(CodeView sample, const std::vector<std::uint32_t>& cluster_of, Array<std::uint8_t>& centroids) {
    const std::size_t n_bytes = sample.n_bytes, n_bits = n_bytes * 8, n_clusters = centroids.size() / n_bytes;
    std::vector<std::uint32_t> size(n_clusters), ones(n_clusters * n_bits);
    for (std::size_t i = 0; i < sample.n; ++i) {
        ++size[cluster_of[i]];
        std::uint32_t* of_cluster = ones.data() + cluster_of[i] * n_bits;
        for (std::size_t b = 0; b < n_bytes; ++b) {
            const unsigned byte = sample.row(i)[b];
            for (std::size_t bit = 0; bit < 8; ++bit) of_cluster[b * 8 + bit] += byte >> bit & 1;
        }
    }
    for (std::size_t c = 0; c < n_clusters; ++c) {
        for (std::size_t i = 0; i < n_bits; ++i) {
            const std::uint32_t twice = 2 * ones[c * n_bits + i];
            std::uint8_t& byte = centroids[c * n_bytes + i / 8];
            const auto mask = static_cast<std::uint8_t>(1u << i % 8);
            if (twice > size[c]) byte = static_cast<std::uint8_t>(byte | mask);
            if (twice < size[c]) byte = static_cast<std::uint8_t>(byte & ~mask);
        }
    }
}

}  // namespace

CentroidNeighbours::CentroidNeighbours(CodeView centroids)
    : n_(centroids.n), n_distances_(centroids.n_bytes * 8 + 1), numbers_(n_ * n_), n_within_(n_ * n_distances_) {
    std::vector<std::uint16_t> distances(n_);
    for (std::size_t c = 0; c < n_; ++c) {  // a counting sort by distance
        kernels().distances(centroids.row(c), centroids.data, n_, centroids.n_bytes, 0, distances.data());
        std::uint32_t* end = n_within_.data() + c * n_distances_;
        for (const std::uint16_t distance : distances) ++end[distance];
        std::vector<std::uint32_t> next(n_distances_);
        for (std::size_t d = 1; d < n_distances_; ++d) {
            next[d] = end[d - 1];
            end[d] += end[d - 1];
        }
        for (std::size_t other = 0; other < n_; ++other) {
            numbers_[c * n_ + next[distances[other]]++] = static_cast<std::uint32_t>(other);
        }
    }
}

// Finds the nearest centroid among those near that of the code before, if these are few. By the triangle inequality, a
// centroid that is no farther from the code than this one lies within twice the distance from this one.
bool CentroidSearch::near_last(const std::uint8_t* code) {
    const std::size_t n_bytes = centroids_.n_bytes;
    std::uint16_t distance;
    kernels().distances(code, centroids_.row(last_.number), 1, n_bytes, 0, &distance);
    const std::size_t n = neighbours_->n_within(last_.number, std::size_t{2} * distance);
    if (n > centroids_.n / 4) return false;
    const std::uint32_t* numbers = neighbours_->begin(last_.number);
    last_.distance = distance;
    if (n == 1) return true;
    gathered_.resize(n * n_bytes);
    for (std::size_t i = 0; i < n; ++i) {
        std::memcpy(gathered_.data() + i * n_bytes, centroids_.row(numbers[i]), n_bytes);
    }
    kernels().distances(code, gathered_.data(), n, n_bytes, 0, distances_.data());
    for (std::size_t i = 0; i < n; ++i) {
        const bool first = distances_[i] == last_.distance && numbers[i] < last_.number;
        if (distances_[i] < last_.distance || first) last_ = {numbers[i], distances_[i]};
    }
    return true;
}

NearestCentroid CentroidSearch::nearest(const std::uint8_t* code) {
    if (neighbours_ != nullptr && near_last(code)) return last_;
    kernels().distances(code, centroids_.data, centroids_.n, centroids_.n_bytes, 0, distances_.data());
    std::uint16_t least = UINT16_MAX;
    for (std::size_t c = 0; c < centroids_.n; ++c) least = std::min(least, distances_[c]);
    std::uint32_t number = 0;
    while (distances_[number] != least) ++number;
    return last_ = {number, least};
}

Array<std::uint8_t> k_majority(CodeView sample, std::size_t n_clusters, Stopper& stopper) {
    if (sample.n == 0 || n_clusters == 0) return {};
    Array<std::uint8_t> centroids = first_centroids(sample, n_clusters, stopper);
    std::vector<std::uint32_t> cluster_of(sample.n);
    for (std::size_t round = 0; round < kRounds; ++round) {
        parallel_for(kChunks, [&](std::size_t chunk) {
            const NumberRange rows = chunk_of(sample.n, kChunks, chunk);
            CentroidSearch search({centroids.data(), centroids.size() / sample.n_bytes, sample.n_bytes});
            stopper.check();
            for (std::size_t i = rows.begin; i < rows.end; ++i) cluster_of[i] = search.nearest(sample.row(i)).number;
        });
        move_centroids(sample, cluster_of, centroids);
    }
    return centroids;
}

}  // namespace fasthash
