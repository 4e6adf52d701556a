// Merges segments and new entries into one sequence, sorted by (code, id).
//
// Used to build sorted segments and to write files. Removed entries are skipped.
#pragma once

#include <memory>
#include <vector>

#include "segments/segment.h"

namespace fasthash {

/// Iterates over the live entries of segments, and new entries, sorted by (code, id).
class MergeCursor {
 public:
    /// The codes of the new entries and the stopper must outlive the cursor.
    MergeCursor(std::vector<LiveSegment> segments, const NewEntries& entries, Stopper& stopper);

    std::size_t n_entries() const { return n_entries_; }
    /// Range of the ids.
    std::int64_t smallest_id() const { return smallest_id_; }
    std::int64_t largest_id() const { return largest_id_; }

    bool done() const { return current_ == nullptr; }
    const std::uint8_t* code() const { return current_->code; }
    std::int64_t id() const { return current_->id; }
    void next();

 private:
    struct Source {
        virtual ~Source() = default;
        virtual bool next() = 0;  // false at the end

        const std::uint8_t* code = nullptr;
        std::int64_t id = 0;
    };
    class OfSorted;
    class OfNew;

    void join(std::unique_ptr<Source> source);
    void choose();

    std::size_t n_bytes_;
    std::vector<LiveSegment> segments_;
    Entries loose_;  // entries of unsorted segments
    std::size_t n_entries_;
    std::int64_t smallest_id_ = INT64_MAX;
    std::int64_t largest_id_ = INT64_MIN;
    std::vector<std::unique_ptr<Source>> sources_;  // sources not yet exhausted
    Source* current_ = nullptr;
};

/// The nodes of a level: the bytes of their codes up to and including this level, and the entries below each.
struct LevelNodeList {
    std::vector<std::uint8_t> prefixes;
    std::vector<std::uint32_t> n_entries;
};
/// The nodes of all levels but the last, ascending. Consumes the cursor.
std::vector<LevelNodeList> list_nodes(MergeCursor entries, const LevelLayout& layout);

/// Number of nodes at each level, the last included, whose nodes are the distinct codes. Consumes the cursor.
std::vector<std::size_t> count_nodes(MergeCursor entries, const LevelLayout& layout);

}  // namespace fasthash
