// The index file, format 1: the only place that knows its bytes. docs/format.md describes them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fasthash/index.h"
#include "files.h"
#include "xxh64.h"

namespace fasthash {

struct IndexHeader {
    IndexKind kind;
    LevelLayout layout;
    std::uint64_t n_codes;
    bool has_ids;
    std::uint8_t memory = 0;  // of a hierarchical index
};

/// Writes an index: all codes, then all ids if it has any, both in any number of pieces, then finish.
class IndexWriter {
 public:
    IndexWriter(const std::string& path, IndexHeader header);

    void codes(const std::uint8_t* data, std::size_t n_bytes);
    void ids(const std::int64_t* data, std::size_t n);
    void finish();

 private:
    void append(Xxh64& hash, const void* data, std::size_t n_bytes);
    void pad();
    void flush();

    IndexHeader header_;
    AtomicFile file_;
    std::vector<std::uint8_t> buffer_;  // of bytes to be written at position_
    std::uint64_t position_;
    bool ids_begun_ = false;
    Xxh64 levels_hash_, codes_hash_, ids_hash_;
};

}  // namespace fasthash
