#include "codes/prefix_moments.h"

#include <algorithm>

#include "codes/code_bits.h"

namespace fasthash {
namespace {

bool bit(const std::uint8_t* code, std::size_t i) { return (code[i / 8] >> i % 8 & 1) != 0; }

}  // namespace

PrefixMoments::PrefixMoments(CodeView prefixes)
    : n_(static_cast<double>(prefixes.n)), n_bits_(std::min(prefixes.n_bytes, kMostBytes) * 8) {
    constexpr std::size_t kWord = 64;
    std::vector<std::uint64_t> planes(n_bits_);          // each bit of as many prefixes as a word has bits
    std::vector<std::uint64_t> both(n_bits_ * n_bits_);  // prefixes in which two bits are set
    for (std::size_t first = 0; first < prefixes.n; first += kWord) {
        std::fill(planes.begin(), planes.end(), 0);
        for (std::size_t i = 0; i < std::min(kWord, prefixes.n - first); ++i) {
            const std::uint8_t* prefix = prefixes.row(first + i);
            for (std::size_t b = 0; b < n_bits_; ++b) planes[b] |= std::uint64_t{bit(prefix, b)} << i;
        }
        for (std::size_t b = 0; b < n_bits_; ++b) {
            for (std::size_t c = 0; c <= b; ++c) {
                both[b * n_bits_ + c] += count_bits(planes[b] & planes[c]);
            }
        }
    }
    for (std::size_t b = 0; b < n_bits_; ++b) set_.push_back(static_cast<double>(both[b * n_bits_ + b]));
    covariances_.resize(n_bits_ * n_bits_);
    for (std::size_t b = 0; b < n_bits_; ++b) {
        for (std::size_t c = 0; c <= b; ++c) {
            const double mean_of_both = static_cast<double>(both[b * n_bits_ + c]) / n_;
            covariances_[b * n_bits_ + c] = covariances_[c * n_bits_ + b] =
                mean_of_both - set_[b] / n_ * (set_[c] / n_);
        }
    }
}

// The distance is a sum over bits: the bit itself where the query's is 0, else 1 - bit.
DistanceMoments PrefixMoments::of(const std::uint8_t* query, std::size_t n_bytes) const {
    constexpr double kRounding = 1e-6;  // more than rounding can change
    const std::size_t n_bits = std::min(n_bytes * 8, n_bits_);
    double signs[kMostBytes * 8];
    DistanceMoments moments{n_, 0, kRounding};
    double sum = 0;
    for (std::size_t b = 0; b < n_bits; ++b) {
        signs[b] = bit(query, b) ? -1 : 1;
        sum += signs[b] < 0 ? n_ - set_[b] : set_[b];
    }
    moments.mean = sum / n_ - kRounding;
    double sums[kMostBytes * 8] = {};  // added up bit by bit, in which vectors can be used
    for (std::size_t b = 0; b < n_bits; ++b) {
        const double* row = covariances_.data() + b * n_bits_;
        for (std::size_t c = 0; c < n_bits; ++c) sums[c] += signs[b] * row[c];
    }
    for (std::size_t c = 0; c < n_bits; ++c) moments.variance += signs[c] * sums[c];
    return moments;
}

}  // namespace fasthash
