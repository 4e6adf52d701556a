// Checks of the codes and runs in a file.
//
// Called by the file reader before it builds a segment.
#pragma once

#include "codes/byte_major_codes.h"
#include "io/file_layout.h"

namespace fasthash {

bool all_zero(const std::uint8_t* bytes, std::size_t n);

/// The bytes that pad the last group must be zero. Throws FormatError, as all of these.
void check_last_group(const ByteMajorCodes& codes);
/// The bits that pad codes whose width is no multiple of 8 must be zero.
void check_padding(const CodeView& codes, std::size_t padding_bits);
void check_padding(const ByteMajorCodes& codes, std::size_t padding_bits);
/// Rows must ascend.
void check_order(const Array<std::uint8_t>& rows, std::size_t n_bytes, std::size_t n_rows);
/// The numbers of ids of the rows must add up. See DuplicateRuns.
void check_runs(const RawHeader& raw, const Array<std::uint64_t>& marks, const Array<std::uint32_t>& extras);

}  // namespace fasthash
