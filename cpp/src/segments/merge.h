// Merges sorted codes: the one way in which entries come together, for new segments and for files.
#pragma once

#include <memory>
#include <vector>

#include "segments/segment.h"

namespace fasthash {

/// Walks what is left of some segments, and new entries, in the order of (code, id).
class MergeCursor {
 public:
    /// The codes of the new entries and the stopper must outlive the cursor.
    MergeCursor(std::vector<LiveSegment> segments, const NewEntries& entries, Stopper& stopper);

    std::size_t n_entries() const { return n_entries_; }
    /// Bounds of the ids.
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
    Entries loose_;  // of segments that are not sorted
    std::size_t n_entries_;
    std::int64_t smallest_id_ = INT64_MAX;
    std::int64_t largest_id_ = INT64_MIN;
    std::vector<std::unique_ptr<Source>> sources_;  // those that are not at their end
    Source* current_ = nullptr;
};

/// How many nodes each level has, the last one included, whose nodes are distinct codes. Uses the cursor up.
std::vector<std::size_t> count_nodes(MergeCursor entries, const LevelLayout& layout);

}  // namespace fasthash
