#include "codes/prefix_moments.h"

#include <algorithm>
#include <cstring>

#include "codes/code_bits.h"

namespace fasthash {
namespace {

using Four = float __attribute__((vector_size(16)));

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
    const auto share = [&](std::size_t b, std::size_t c) { return static_cast<double>(both[b * n_bits_ + c]) / n_; };
    for (std::size_t byte = 0; byte < n_bits_ / 8; ++byte) {
        for (unsigned value = 0; value < kValues; ++value) {
            double mean = 0;
            for (std::size_t i = 0; i < 8; ++i) {
                const double set = share(byte * 8 + i, byte * 8 + i);
                mean += (value >> i & 1) != 0 ? 1 - set : set;
            }
            means_.push_back(mean);
        }
    }
    terms_.resize(n_bits_ * n_bits_);
    for (std::size_t b = 0; b < n_bits_; ++b) {
        for (std::size_t c = 0; c <= b; ++c) {
            const double covariance = share(b, c) - share(b, b) * share(c, c);
            terms_[b * n_bits_ + c] = static_cast<float>(b == c ? covariance : 2 * covariance);
        }
    }
}

double PrefixMoments::mean(const std::uint8_t* query, std::size_t n_bytes) const {
    constexpr double kRounding = 1e-6;
    double sum = -kRounding;
    for (std::size_t byte = 0; byte < std::min(n_bytes, n_bits_ / 8); ++byte)
        sum += means_[byte * kValues + query[byte]];
    return sum;
}

// The distance is a sum over bits: the bit itself where the query's is 0, else 1 - bit.
DistanceMoments PrefixMoments::of(const std::uint8_t* query, std::size_t n_bytes) const {
    constexpr double kRounding = 1e-2;  // of 2,080 terms of at most a half, each rounded to 24 binary digits when added
    const std::size_t n_bits = std::min(n_bytes * 8, n_bits_);
    float signs[kMostBytes * 8];
    for (std::size_t b = 0; b < n_bits; ++b) signs[b] = 1.0F - 2.0F * static_cast<float>(bit(query, b));  // no branch
    DistanceMoments moments{n_, mean(query, n_bytes), kRounding};
    for (std::size_t first = 0; first < n_bits; first += 8) {
        Four sums[2] = {};  // of the columns of a byte; their terms are 0 above row `first`
        for (std::size_t b = first; b < n_bits; ++b) {
            Four terms[2];
            std::memcpy(terms, terms_.data() + b * n_bits_ + first, sizeof terms);
            for (std::size_t i = 0; i < 2; ++i) sums[i] += signs[b] * terms[i];
        }
        for (std::size_t i = 0; i < 8; ++i) {
            moments.variance += static_cast<double>(signs[first + i] * sums[i / 4][i % 4]);
        }
    }
    return moments;
}

}  // namespace fasthash
