// JaccardTopK: selects the k nearest entries of a query by Jaccard distance, ordered by (distance, id).
//
// Used by scan_jaccard. Distances are fractions and are compared as fractions, so that no two of them are taken for
// equal, or equal ones for different, because of rounding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fasthash {

/// 1 - shared / united: the share of the bits set in either of two codes that the two do not share. Two codes without a
/// bit set are at distance 0. All numbers are at most kMaxBits, so that products fit 32 bits.
struct JaccardDistance {
    std::uint32_t differing;  ///< bits set in one code only
    std::uint32_t united;     ///< bits set in either code; 1 if there are none

    /// Of codes with these numbers of bits set, which share `shared` of them.
    static JaccardDistance of(std::size_t n_set, std::size_t n_set_other, std::size_t shared) {
        const std::size_t united = n_set + n_set_other - shared;
        return {static_cast<std::uint32_t>(united - shared), static_cast<std::uint32_t>(united == 0 ? 1 : united)};
    }
    /// The largest distance between codes of n_bits whose value() is at most `radius` (>= 0).
    static JaccardDistance largest_within(float radius, std::size_t n_bits);

    float value() const { return static_cast<float>(differing) / static_cast<float>(united); }
    /// The fewest shared bits of two codes within this distance that have `n_set` bits set, added together.
    std::size_t least_shared(std::size_t n_set) const {
        // differing / united = (n_set - 2 shared) / (n_set - shared), solved for shared and rounded up.
        const std::size_t whole = 2 * united - differing;
        return (n_set * (united - differing) + whole - 1) / whole;
    }
    friend bool operator<(JaccardDistance a, JaccardDistance b) {
        return a.differing * b.united < b.differing * a.united;
    }
};

class JaccardTopK {
 public:
    /// `count_only`: only count the entries within the radius.
    JaccardTopK(std::size_t k, JaccardDistance radius, bool count_only = false);

    /// No entry beyond this distance can be among the k. Only falls.
    JaccardDistance threshold() const { return threshold_; }
    void push(JaccardDistance distance, std::int64_t id);
    /// Push all pairs kept by another selection.
    void push_all(const JaccardTopK& other);
    /// Number of entries selected or counted.
    std::size_t size() const { return count_only_ ? n_ : pairs_.size(); }
    /// Write the entries in order. Ends the selection.
    void write(float* distances, std::int64_t* ids);

 private:
    struct Pair {
        JaccardDistance distance;
        std::int64_t id;

        friend bool operator<(const Pair& a, const Pair& b) {
            if (a.distance < b.distance) return true;
            return !(b.distance < a.distance) && a.id < b.id;
        }
    };

    std::size_t k_;
    JaccardDistance threshold_;
    bool count_only_;
    std::size_t n_ = 0;
    std::vector<Pair> pairs_;  // once there are k of them, a heap with the farthest at its top
};

}  // namespace fasthash
