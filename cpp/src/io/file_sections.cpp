#include "io/file_sections.h"

#include <string>
#include <tuple>

#include "fasthash/threads.h"
#include "io/code_checks.h"
#include "io/id_checks.h"
#include "io/xxh64.h"

namespace fasthash {

void Sections::check_gaps() const {
    for (std::size_t i = 0; i + 1 < table_.n; ++i) {
        std::uint8_t gap[SectionTable::kAlignment];
        const auto n = static_cast<std::size_t>(table_[i + 1].begin - table_[i].end());
        opened_.file.read(gap, n, table_[i].end());
        if (!all_zero(gap, n)) refuse(std::string("bytes after the section '") + kSectionNames[i] + "' are not zero");
    }
}

void Sections::check_hash(std::size_t section,
                          std::initializer_list<std::pair<const void*, std::size_t>> pieces) const {
    Xxh64 hash;
    for (const auto& [data, n_bytes] : pieces) hash.update(data, n_bytes);
    if (hash.digest() != opened_.raw.hashes[section]) OpenedFile::refuse_section(section);
}

void Sections::check_large(const void* codes, std::size_t n_code_bytes, const PackedNumbers& ids,
                           const PackedNumbers& id_map) const {
    const std::tuple<std::size_t, const void*, std::size_t> large[] = {
        {1, codes, n_code_bytes},
        {3, ids.bytes().data(), ids.bytes().size()},
        {5, id_map.bytes().data(), id_map.bytes().size()}};
    parallel_for(table_.n == kSections ? 3 : 2, [&](std::size_t i) {
        const auto& [section, data, n_bytes] = large[i];
        check_hash(section, {{data, n_bytes}});
    });
}

}  // namespace fasthash
