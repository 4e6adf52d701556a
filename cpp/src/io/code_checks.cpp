#include "io/code_checks.h"

#include <algorithm>
#include <cstring>
#include <string>

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

void check_padding(const CodeView& codes, std::size_t padding_bits) { refuse_padded(codes, padding_bits); }

void check_padding(const ByteMajorCodes& codes, std::size_t padding_bits) { refuse_padded(codes, padding_bits); }

void check_order(const Array<std::uint8_t>& codes, std::size_t n_bytes, std::size_t n_rows) {
    constexpr std::size_t kChunks = 16;
    std::size_t wrong[kChunks];
    parallel_for(kChunks,
                 [&](std::size_t i) { wrong[i] = first_out_of_order(codes, n_bytes, chunk_of(n_rows, kChunks, i)); });
    for (std::size_t i = 0; i < kChunks; ++i) {
        if (wrong[i] == chunk_of(n_rows, kChunks, i).end) continue;
        refuse("codes are out of order at row " + std::to_string(wrong[i]));
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
