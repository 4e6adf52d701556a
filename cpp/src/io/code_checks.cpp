#include "io/code_checks.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "codes/code_bits.h"
#include "codes/padding.h"
#include "fasthash/threads.h"
#include "io/id_checks.h"
#include "platform/number_range.h"

namespace fasthash {
namespace {

// The first row that is not greater than the previous one; rows.end if there is none.
std::size_t first_out_of_order(const Array<std::uint8_t>& codes, std::size_t n_bytes, NumberRange rows) {
    for (std::size_t row = std::max<std::size_t>(rows.begin, 1); row < rows.end; ++row) {
        const std::uint8_t* code = codes.data() + row * n_bytes;
        if (n_bytes == 8) {  // fast path: compares as integers
            std::uint64_t word, before;
            std::memcpy(&word, code, sizeof word);
            std::memcpy(&before, code - sizeof before, sizeof before);
            if (__builtin_bswap64(before) >= __builtin_bswap64(word)) return row;
        } else if (std::memcmp(code - n_bytes, code, n_bytes) >= 0) {
            return row;
        }
    }
    return rows.end;
}

std::size_t first_out_of_order(const ByteMajorCodes& codes, NumberRange rows) {
    constexpr std::size_t kPiece = 1024;
    Array<std::uint8_t> piece;  // with the row before it
    for (std::size_t begin = rows.begin; begin < rows.end; begin += kPiece) {
        const std::size_t first = begin - std::min<std::size_t>(begin, 1);
        const std::size_t n = std::min(begin + kPiece, rows.end) - first;
        piece.resize(n * codes.n_bytes());
        codes.copy_rows(first, n, piece.data());
        const std::size_t wrong = first_out_of_order(piece, codes.n_bytes(), {0, n});
        if (wrong < n) return first + wrong;
    }
    return rows.end;
}

// Calls first_wrong(rows) for parts of all rows.
template <typename FirstWrong>
void refuse_out_of_order(std::size_t n_rows, FirstWrong first_wrong) {
    constexpr std::size_t kChunks = 16;
    std::size_t wrong[kChunks];
    parallel_for(kChunks, [&](std::size_t i) { wrong[i] = first_wrong(chunk_of(n_rows, kChunks, i)); });
    for (std::size_t i = 0; i < kChunks; ++i) {
        if (wrong[i] == chunk_of(n_rows, kChunks, i).end) continue;
        refuse("codes are out of order at row " + std::to_string(wrong[i]));
    }
}

template <typename Codes>
void refuse_padded(const Codes& codes, std::size_t padding_bits) {
    const std::optional<std::size_t> row = first_padded_row(codes, padding_bits);
    if (row) refuse("bits that pad the code of row " + std::to_string(*row) + " are not zero");
}

}  // namespace

bool all_zero(const std::uint8_t* bytes, std::size_t n) {
    return std::all_of(bytes, bytes + n, [](std::uint8_t byte) { return byte == 0; });
}

void check_last_group(const ByteMajorCodes& codes) {
    const std::size_t n = codes.size(), n_bytes = codes.n_bytes();
    const std::uint8_t* last_group = codes.stored().end() - kGroup * n_bytes;
    for (std::size_t b = 0; b < n_bytes && n % kGroup != 0; ++b) {
        if (!all_zero(last_group + b * kGroup + n % kGroup, kGroup - n % kGroup)) {
            refuse("bytes after the last code are not zero");
        }
    }
}

void check_planes(const BitMajorCodes& codes, std::size_t padding_bits) {
    const std::size_t n_bits = codes.n_bits(), n_bytes = codes.n_bytes();
    parallel_for(codes.n_blocks(), [&](std::size_t block) {
        const NumberRange range = codes.codes_of(block);
        const std::size_t n_words = codes.n_words(block);
        for (std::size_t bit = 0; bit < n_bits && range.size() % 64 != 0; ++bit) {
            const std::uint64_t last = codes.planes_of(block)[(bit + 1) * n_words - 1];
            if (last >> range.size() % 64 != 0) refuse("bits after the last code are not zero");
        }
        std::vector<std::size_t> numbers(range.size());
        std::iota(numbers.begin(), numbers.end(), range.begin);
        Array<std::uint8_t> rows(range.size() * n_bytes);
        codes.copy_rows(numbers.data(), numbers.size(), rows.data());
        refuse_padded(CodeView{rows.data(), numbers.size(), n_bytes}, padding_bits);
        for (std::size_t i = 0; i < numbers.size(); ++i) {
            if (count_set(rows.data() + i * n_bytes, n_bytes) != codes.n_set(numbers[i])) {
                refuse("code of row " + std::to_string(numbers[i]) + " has another number of bits set than its place");
            }
        }
    });
}

void check_padding(const CodeView& codes, std::size_t padding_bits) { refuse_padded(codes, padding_bits); }

void check_padding(const ByteMajorCodes& codes, std::size_t padding_bits) { refuse_padded(codes, padding_bits); }

void check_order(const Array<std::uint8_t>& codes, std::size_t n_bytes, std::size_t n_rows) {
    refuse_out_of_order(n_rows, [&](NumberRange rows) { return first_out_of_order(codes, n_bytes, rows); });
}

void check_order(const ByteMajorCodes& codes) {
    refuse_out_of_order(codes.size(), [&](NumberRange rows) { return first_out_of_order(codes, rows); });
}

void check_directory(const PrefixDirectory& directory, const Array<std::uint8_t>& rows, std::size_t n_bytes) {
    const auto value_of = [&](std::size_t row) {
        return code_bits(rows.data() + row * n_bytes, n_bytes, 0, directory.n_bits);
    };
    for (std::size_t value = 0; value + 1 < directory.begin.size(); ++value) {
        const std::size_t begin = directory.begin[value], end = directory.begin[value + 1];
        if (begin == end || (value_of(begin) == value && value_of(end - 1) == value)) continue;
        refuse("directory does not agree with the codes at the value " + std::to_string(value));
    }
}

void check_tables(const SortedCodes& sorted, const std::vector<SubstringTable>& tables, std::size_t n_bits) {
    Stopper stopper;
    for (const SubstringTable& each : tables) {
        const SubstringTable right = make_substring_table(sorted, each.first_bit, n_bits, stopper);
        const bool same = std::equal(each.begin.begin(), each.begin.end(), right.begin.begin()) &&
                          std::equal(each.codes.begin(), each.codes.end(), right.codes.begin()) &&
                          std::equal(each.rows.bytes().begin(), each.rows.bytes().end() - PackedNumbers::kSlack,
                                     right.rows.bytes().begin());
        if (!same)
            refuse("table of the bits from " + std::to_string(each.first_bit) + " on does not agree with the codes");
    }
}

void check_runs(const RawHeader& raw, const Array<std::uint64_t>& marks, const Array<std::uint32_t>& extras) {
    if (raw.n_runs == 0) return;
    std::size_t n_marks = 0;
    for (const std::uint64_t word : marks) n_marks += count_bits(word);
    const bool beyond = raw.n_rows % 64 != 0 && marks.back() >> raw.n_rows % 64 != 0;
    if (n_marks != raw.n_runs || beyond) refuse("runs do not mark as many rows as the header says");
    std::uint32_t last = 0;
    for (const std::uint32_t extra : extras) {
        if (extra <= last) refuse("runs do not grow");
        last = extra;
    }
    if (last != raw.n_codes - raw.n_rows) refuse("runs do not hold as many codes as the header says");
}

}  // namespace fasthash
