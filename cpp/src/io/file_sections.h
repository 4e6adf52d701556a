// The sections of an opened file as arrays, and the checks of their checksums and of the gaps between them.
//
// Used by the readers of segments. Arrays of a mapped file are views into the mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "io/opened_file.h"

namespace fasthash {

/// The arrays of a file, in memory or mapped.
class Sections {
 public:
    Sections(const OpenedFile& opened, const MappedFile* mapped)
        : opened_(opened), table_(opened.table()), mapped_(mapped) {}

    /// n values of a section, starting at byte `offset`.
    template <typename T>
    Array<T> values(std::size_t section, std::uint64_t offset, std::size_t n) const {
        const std::uint64_t begin = table_[section].begin + offset;
        if (mapped_ != nullptr) return Array<T>::view(reinterpret_cast<const T*>(mapped_->data() + begin), n);
        Array<T> read(n);
        opened_.file.read(read.data(), n * sizeof(T), begin);
        return read;
    }
    /// The gaps between sections must be zero. Throws FormatError, as all of these.
    void check_gaps() const;
    /// `pieces`: the bytes of the section, in order.
    void check_hash(std::size_t section, std::initializer_list<std::pair<const void*, std::size_t>> pieces) const;
    /// Checks the checksums of the large sections in parallel.
    template <typename T>
    void check_large(const Array<T>& codes, const PackedNumbers& ids, const PackedNumbers& id_map) const {
        check_large(codes.data(), codes.size() * sizeof(T), ids, id_map);
    }

 private:
    void check_large(const void* codes, std::size_t n_code_bytes, const PackedNumbers& ids,
                     const PackedNumbers& id_map) const;

    const OpenedFile& opened_;
    const SectionTable table_;
    const MappedFile* mapped_;
};

}  // namespace fasthash
