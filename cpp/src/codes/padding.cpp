#include "codes/padding.h"

#include <string>

#include "fasthash/error.h"

namespace fasthash {
namespace {

// `last_byte(row)`: the last byte of the code of a row.
template <typename LastByte>
std::optional<std::size_t> first_not_zero(std::size_t n, std::size_t padding_bits, LastByte last_byte) {
    const unsigned mask = (1u << padding_bits) - 1;
    for (std::size_t row = 0; row < n && mask != 0; ++row) {
        if ((last_byte(row) & mask) != 0) return row;
    }
    return std::nullopt;
}

}  // namespace

std::optional<std::size_t> first_padded_row(const CodeView& codes, std::size_t padding_bits) {
    return first_not_zero(codes.n, padding_bits, [&](std::size_t row) { return codes.row(row)[codes.n_bytes - 1]; });
}

std::optional<std::size_t> first_padded_row(const ByteMajorCodes& codes, std::size_t padding_bits) {
    const std::uint8_t* const stored = codes.stored().data();
    const std::size_t n_bytes = codes.n_bytes();
    return first_not_zero(codes.size(), padding_bits, [=](std::size_t row) {
        return stored[(row / kGroup * n_bytes + n_bytes - 1) * kGroup + row % kGroup];
    });
}

void check_padding(const char* name, const CodeView& codes, std::size_t n_bits) {
    const std::size_t padding_bits = codes.n_bytes * 8 - n_bits;
    const std::optional<std::size_t> row = first_padded_row(codes, padding_bits);
    if (!row) return;
    throw ArgumentError(std::string(name) + " must have zeros in the low " + std::to_string(padding_bits) +
                        (padding_bits == 1 ? " bit" : " bits") + " of the last byte, which pad " +
                        std::to_string(n_bits) + " bits to " + std::to_string(codes.n_bytes) +
                        " bytes as numpy.packbits does, got a last byte of " +
                        std::to_string(codes.row(*row)[codes.n_bytes - 1]) + " in row " + std::to_string(*row));
}

}  // namespace fasthash
