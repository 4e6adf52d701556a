// Padding: the low bits of the last byte of a code whose width is no multiple of 8.
//
// Padding must be zero, so that distances over whole bytes are those of the bits. The index checks what callers pass,
// and the file reader what files hold.
#pragma once

#include <optional>

#include "codes/byte_major_codes.h"
#include "fasthash/codes.h"

namespace fasthash {

/// The first row whose padding is not zero.
std::optional<std::size_t> first_padded_row(const CodeView& codes, std::size_t padding_bits);
std::optional<std::size_t> first_padded_row(const ByteMajorCodes& codes, std::size_t padding_bits);

/// Throws ArgumentError, which names the argument and the row, if the padding of a code is not zero.
void check_padding(const char* name, const CodeView& codes, std::size_t n_bits);

}  // namespace fasthash
