// The kernel that counts shared bits in bit planes, a template shared by all instruction sets.
//
// A plane holds one bit of many codes, so that a word of it concerns 64 codes. Adding up the planes of the bits that a
// query sets gives the number of bits that each code shares with it; the other planes are never read. The sums are kept
// as planes too: `ones` has the lowest binary digit of 64 sums in each word, `twos` the next. A full adder takes three
// planes of one weight to one of that weight and one of twice that weight (Harley and Seal).
#pragma once

#include "kernels/rows.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"  // about vectors as arguments: all functions here are inlined
#endif

namespace fasthash::planes {

template <typename Vector>
FASTHASH_INLINE Vector load(const std::uint64_t* words) {
    Vector vector;
    std::memcpy(&vector, words, sizeof vector);
    return vector;
}

FASTHASH_INLINE bool any(std::uint64_t word) { return word != 0; }

template <typename Vector>
FASTHASH_INLINE bool any(const Vector& vector) {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < sizeof vector / sizeof word; ++i) word |= vector[i];
    return word != 0;
}

template <typename Vector>
FASTHASH_INLINE void add(Vector& sum, const Vector& a, const Vector& b, Vector& carry) {
    const Vector both = sum ^ a;
    carry = (sum & a) | (both & b);
    sum = both ^ b;
}

/// The sums of as many codes as a vector has bits.
template <typename Vector>
struct Sums {
    static constexpr unsigned kMostHigh = kSumDigits - 3;

    Vector ones{}, twos{}, fours{};
    Vector high[kMostHigh];  // eights, sixteens, ...
    unsigned n_high;

    FASTHASH_INLINE explicit Sums(std::size_t largest) : n_high(0) {
        while (largest >> (3 + n_high) != 0) high[n_high++] = Vector{};
    }
    FASTHASH_INLINE void add_eight(const Vector (&x)[8]) {
        Vector a, b, c, d, carry;
        add(ones, x[0], x[1], a);
        add(ones, x[2], x[3], b);
        add(twos, a, b, c);
        add(ones, x[4], x[5], a);
        add(ones, x[6], x[7], b);
        add(twos, a, b, d);
        add(fours, c, d, carry);
        for (unsigned i = 0; i < n_high; ++i) {
            const Vector next = high[i] & carry;
            high[i] ^= carry;
            carry = next;
        }
    }
    /// The codes whose sum is at least `least`, which is at most the largest sum.
    FASTHASH_INLINE Vector at_least(std::size_t least) const {
        Vector result = ~Vector{};
        const auto compare = [&result](const Vector& digit, bool set) {
            result = set ? digit & result : digit | result;
        };
        compare(ones, (least & 1) != 0);
        compare(twos, (least & 2) != 0);
        compare(fours, (least & 4) != 0);
        for (unsigned i = 0; i < n_high; ++i) compare(high[i], (least >> (3 + i) & 1) != 0);
        return result;
    }
    FASTHASH_INLINE void store(std::uint64_t* digits) const {
        std::memcpy(digits, &ones, sizeof ones);
        std::memcpy(digits + kPlaneWords, &twos, sizeof twos);
        std::memcpy(digits + 2 * kPlaneWords, &fours, sizeof fours);
        for (unsigned i = 0; i < n_high; ++i) std::memcpy(digits + (3 + i) * kPlaneWords, high + i, sizeof(Vector));
    }
};

/// Counts for the codes of the words first .. first + sizeof(Vector) / 8. Ends early if no code can reach `least`.
template <typename Vector>
FASTHASH_INLINE bool count_words(const PlaneScan& scan, std::size_t first) {
    const std::uint64_t* planes = scan.planes + first;
    Sums<Vector> sums(scan.n_set);
    for (std::size_t i = 0; i < scan.n_set; i += 8) {
        Vector x[8];
        const std::size_t n = scan.n_set - i < 8 ? scan.n_set - i : 8;
        if (n == 8) {
            for (std::size_t j = 0; j < 8; ++j) x[j] = load<Vector>(planes + scan.bits[i + j] * scan.n_words);
        } else {
            for (std::size_t j = 0; j < 8; ++j) {
                x[j] = j < n ? load<Vector>(planes + scan.bits[i + j] * scan.n_words) : Vector{};
            }
        }
        sums.add_eight(x);
        const std::size_t rest = scan.n_set - i - n;
        if (scan.least > rest && rest > 0 && !any(sums.at_least(scan.least - rest))) return false;
    }
    const Vector found = sums.at_least(scan.least);
    if (!any(found)) return false;
    std::memcpy(scan.found + first, &found, sizeof found);
    sums.store(scan.sums + first);
    return true;
}

/// See Kernels::count_shared.
template <typename Vector>
FASTHASH_INLINE bool count_shared(const PlaneScan& scan) {
    constexpr std::size_t kStep = sizeof(Vector) / sizeof(std::uint64_t);
    bool found = false;
    std::size_t first = 0;
    for (; first + kStep <= scan.n_words; first += kStep) {
        const bool in_words = count_words<Vector>(scan, first);
        if (!in_words) std::memset(scan.found + first, 0, sizeof(Vector));
        found |= in_words;
    }
    for (; first < scan.n_words; ++first) {
        const bool in_word = count_words<std::uint64_t>(scan, first);
        if (!in_word) scan.found[first] = 0;
        found |= in_word;
    }
    return found;
}

}  // namespace fasthash::planes

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
