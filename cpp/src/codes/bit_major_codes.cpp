#include "codes/bit_major_codes.h"

#include <algorithm>
#include <cstring>

#include "fasthash/threads.h"

namespace fasthash {
namespace {

constexpr std::size_t kWord = 64;  // codes of a word of a plane

// Swaps rows and columns of 8 x 8 bits; row i is byte i, column j its bit j (Hacker's Delight, 7-3).
std::uint64_t transposed(std::uint64_t x) {
    std::uint64_t t = (x ^ x >> 7) & 0x00AA00AA00AA00AAu;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000CCCC0000CCCCu;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000F0F0F0F0u;
    return x ^ t ^ t << 28;
}

// Writes word `w` of each plane from up to 64 rows. Bit j of a code is bit 7 - j % 8 of its byte j / 8.
void write_words(const std::uint8_t* rows, std::size_t n_rows, std::size_t n_bytes, std::size_t n_words, std::size_t w,
                 std::uint64_t* planes) {
    for (std::size_t b = 0; b < n_bytes; ++b) {
        std::uint64_t words[8] = {};
        for (std::size_t first = 0; first < n_rows; first += 8) {
            std::uint64_t bytes = 0;
            for (std::size_t i = 0; i < std::min<std::size_t>(8, n_rows - first); ++i) {
                bytes |= std::uint64_t{rows[(first + i) * n_bytes + b]} << 8 * i;
            }
            bytes = transposed(bytes);
            for (std::size_t bit = 0; bit < 8; ++bit) words[7 - bit] |= (bytes >> 8 * bit & 0xff) << first;
        }
        for (std::size_t j = 0; j < 8; ++j) planes[(b * 8 + j) * n_words + w] = words[j];
    }
}

// The inverse, for all 64 codes.
void read_words(const std::uint64_t* planes, std::size_t n_bytes, std::size_t n_words, std::size_t w,
                std::uint8_t* rows) {
    for (std::size_t b = 0; b < n_bytes; ++b) {
        std::uint64_t words[8];
        for (std::size_t j = 0; j < 8; ++j) words[j] = planes[(b * 8 + j) * n_words + w];
        for (std::size_t first = 0; first < kWord; first += 8) {
            std::uint64_t bits = 0;
            for (std::size_t bit = 0; bit < 8; ++bit) bits |= (words[7 - bit] >> first & 0xff) << 8 * bit;
            bits = transposed(bits);
            for (std::size_t i = 0; i < 8; ++i) {
                rows[(first + i) * n_bytes + b] = static_cast<std::uint8_t>(bits >> 8 * i);
            }
        }
    }
}

}  // namespace

std::size_t count_set(const std::uint8_t* row, std::size_t n_bytes) {
    std::size_t n = 0, i = 0;
    for (; i + 8 <= n_bytes; i += 8) {
        std::uint64_t word;
        std::memcpy(&word, row + i, 8);
        n += static_cast<std::size_t>(__builtin_popcountll(word));
    }
    for (; i < n_bytes; ++i) n += static_cast<std::size_t>(__builtin_popcount(row[i]));
    return n;
}

BitMajorCodes::BitMajorCodes(CodeView rows) : n_bytes_(rows.n_bytes), n_(rows.n) {
    planes_.resize((n_ + kWord - 1) / kWord * n_bits());
    parallel_for(n_blocks(), [&](std::size_t block) {
        const NumberRange codes = codes_of(block);
        std::uint64_t* planes = planes_.data() + block * kPlaneWords * n_bits();
        for (std::size_t begin = codes.begin, w = 0; begin < codes.end; begin += kWord, ++w) {
            write_words(rows.row(begin), std::min(kWord, codes.end - begin), n_bytes_, n_words(block), w, planes);
        }
    });
    count_begin_.assign(n_bits() + 2, 0);
    for (std::size_t i = 0; i < n_; ++i) ++count_begin_[count_set(rows.row(i), n_bytes_) + 1];
    for (std::size_t count = 1; count < count_begin_.size(); ++count) count_begin_[count] += count_begin_[count - 1];
}

BitMajorCodes::BitMajorCodes(std::size_t n_bytes, std::size_t n, Array<std::uint64_t> planes,
                             Array<std::uint32_t> count_begin)
    : n_bytes_(n_bytes), n_(n), planes_(std::move(planes)), count_begin_(std::move(count_begin)) {}

NumberRange BitMajorCodes::codes_of(std::size_t block) const {
    return {block * kBlock, std::min(n_, (block + 1) * kBlock)};
}

std::size_t BitMajorCodes::n_words(std::size_t block) const { return (codes_of(block).size() + kWord - 1) / kWord; }

std::size_t BitMajorCodes::n_set(std::size_t code) const {
    const auto* after = std::upper_bound(count_begin_.begin(), count_begin_.end(), code);
    return static_cast<std::size_t>(after - count_begin_.begin()) - 1;
}

const std::uint8_t* BitMajorCodes::groups(std::size_t first, std::size_t n, Array<std::uint8_t>& scratch) const {
    static_assert(kGroup == kWord, "a group is a word of each plane");
    const std::size_t group_bytes = kGroup * n_bytes_;
    Array<std::uint8_t> rows(group_bytes);
    scratch.resize(n * group_bytes);
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t block = (first + i) / kPlaneWords, w = (first + i) % kPlaneWords;
        read_words(planes_of(block), n_bytes_, n_words(block), w, rows.data());
        to_byte_major({rows.data(), kGroup, n_bytes_}, scratch.data() + i * group_bytes);
    }
    return scratch.data();
}

void BitMajorCodes::copy_rows(const std::size_t* codes, std::size_t n, std::uint8_t* rows) const {
    Array<std::uint8_t> word(kWord * n_bytes_);
    for (std::size_t i = 0; i < n;) {
        const std::size_t block = codes[i] / kBlock, w = codes[i] % kBlock / kWord;
        read_words(planes_of(block), n_bytes_, n_words(block), w, word.data());
        for (const std::size_t in_word = codes[i] / kWord; i < n && codes[i] / kWord == in_word; ++i) {
            std::memcpy(rows + i * n_bytes_, word.data() + codes[i] % kWord * n_bytes_, n_bytes_);
        }
    }
}

}  // namespace fasthash
