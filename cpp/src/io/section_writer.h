// Writers of sections: bytes with their checksums, codes, ids.
//
// Used by the writers of indices (file_writer.cpp). Bytes only go forward; the header, which has the checksums, comes
// last.
#pragma once

#include <cstring>
#include <vector>

#include "codes/byte_major_codes.h"
#include "codes/packed_numbers.h"
#include "io/file_layout.h"
#include "io/xxh64.h"
#include "platform/array.h"
#include "platform/files.h"
#include "platform/stopper.h"

namespace fasthash {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;  // bytes written at once

/// Writes the sections in order, each in any number of calls, and the header last.
class IndexWriter {
 public:
    IndexWriter(ByteSink& sink, Stopper& stopper) : sink_(sink), stopper_(stopper), position_(sizeof(RawHeader)) {}

    void begin(std::size_t section) {
        const std::uint64_t position = position_ + buffer_.size();
        buffer_.resize(buffer_.size() + static_cast<std::size_t>(SectionTable::align(position) - position));
        section_ = section;
    }
    void append(const void* data, std::size_t n_bytes) {
        hashes_[section_].update(data, n_bytes);
        const auto* bytes = static_cast<const std::uint8_t*>(data);
        buffer_.insert(buffer_.end(), bytes, bytes + n_bytes);
        if (buffer_.size() >= kBufferBytes) flush();
    }
    /// The bytes after packed numbers.
    void append_slack() {
        const std::uint8_t slack[PackedNumbers::kSlack] = {};
        append(slack, sizeof slack);
    }
    void finish(RawHeader raw) {
        flush();
        std::memcpy(raw.magic, kMagic, sizeof kMagic);
        raw.major = kMajor;
        raw.minor = raw.oldest_minor();
        raw.header_bytes = sizeof raw;
        for (std::size_t i = 0; i < raw.n_sections(); ++i) raw.hashes[i] = hashes_[i].digest();
        raw.header_hash = xxh64(&raw, offsetof(RawHeader, header_hash));
        sink_.write(&raw, sizeof raw, 0);
        sink_.commit();
    }

 private:
    void flush() {
        stopper_.check();
        sink_.write(buffer_.data(), buffer_.size(), position_);
        position_ += buffer_.size();
        buffer_.clear();
    }

    ByteSink& sink_;
    Stopper& stopper_;
    std::vector<std::uint8_t> buffer_;  // pending bytes, which belong at position_
    std::uint64_t position_;
    std::size_t section_ = 0;
    Xxh64 hashes_[kSections];
};

/// Writes codes as they arrive, or converts them to whole groups.
class CodeWriter {
 public:
    CodeWriter(IndexWriter& writer, std::size_t n_bytes, bool in_groups)
        : writer_(writer), n_bytes_(n_bytes), in_groups_(in_groups) {}

    void append(const std::uint8_t* code) {
        if (!in_groups_) return writer_.append(code, n_bytes_);
        rows_.append(code, n_bytes_);
        if (rows_.size() == kGroup * n_bytes_) write_group();
    }
    void finish() {
        if (!rows_.empty()) write_group();
    }

 private:
    void write_group() {
        groups_.resize(kGroup * n_bytes_);
        to_byte_major({rows_.data(), rows_.size() / n_bytes_, n_bytes_}, groups_.data());
        writer_.append(groups_.data(), groups_.size());
        rows_.clear();
    }

    IndexWriter& writer_;
    const std::size_t n_bytes_;
    const bool in_groups_;
    Array<std::uint8_t> rows_, groups_;
};

/// Writes ids in the order in which they arrive, and keeps those that an id map is made of.
class IdWriter {
 public:
    /// All ids lie in smallest .. largest. `ids`: null if no map is wanted.
    IdWriter(IndexWriter& writer, RawHeader& raw, std::int64_t smallest, std::int64_t largest, Array<std::int64_t>* ids)
        : writer_(writer), raw_(raw), ids_(ids) {
        raw.first_id = smallest;
        raw.id_bytes = static_cast<std::uint8_t>(
            PackedNumbers::width_for(static_cast<std::uint64_t>(largest) - static_cast<std::uint64_t>(smallest)));
    }

    void append(std::int64_t id) {
        const std::uint64_t value = static_cast<std::uint64_t>(id) - static_cast<std::uint64_t>(raw_.first_id);
        writer_.append(&value, raw_.id_bytes);
        if (ids_ != nullptr) ids_->push_back(id);
    }
    void finish() { writer_.append_slack(); }

 private:
    IndexWriter& writer_;
    const RawHeader& raw_;
    Array<std::int64_t>* ids_;
};

}  // namespace fasthash
