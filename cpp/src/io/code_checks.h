// Checks of the codes and runs in a file.
//
// Called by the file reader before it builds a segment.
#pragma once

#include "codes/bit_major_codes.h"
#include "io/file_layout.h"
#include "search/substring_search.h"

namespace fasthash {

bool all_zero(const std::uint8_t* bytes, std::size_t n);

/// The bytes that pad the last group must be zero. Throws FormatError, as all of these.
void check_last_group(const ByteMajorCodes& codes);
/// Codes must be in the order of their numbers of bits set; unused bits of planes and padding bits must be zero.
void check_planes(const BitMajorCodes& codes, std::size_t padding_bits);
/// The bits that pad codes whose width is no multiple of 8 must be zero.
void check_padding(const CodeView& codes, std::size_t padding_bits);
void check_padding(const ByteMajorCodes& codes, std::size_t padding_bits);
/// Rows must ascend.
void check_order(const Array<std::uint8_t>& rows, std::size_t n_bytes, std::size_t n_rows);
void check_order(const ByteMajorCodes& codes);
/// Each value of the leading bits must have the rows of a directory that divides them; they ascend.
void check_directory(const PrefixDirectory& directory, const Array<std::uint8_t>& rows, std::size_t n_bytes);
/// Tables must be those of the rows.
void check_tables(const SortedCodes& sorted, const std::vector<SubstringTable>& tables, std::size_t n_bits);
/// The numbers of ids of the rows must add up. See DuplicateRuns.
void check_runs(const RawHeader& raw, const Array<std::uint64_t>& marks, const Array<std::uint32_t>& extras);

}  // namespace fasthash
