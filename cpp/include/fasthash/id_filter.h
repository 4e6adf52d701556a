// IdFilter: the set of ids that a search may return.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace fasthash {

class FilteredGallery;

/// Its ids never change, so it may be shared by any number of searches, threads and indices. Ids that an index does not
/// hold are ignored.
class IdFilter {
 public:
    /// Ids in any order; duplicates are ignored.
    explicit IdFilter(std::vector<std::int64_t> ids);
    /// The ids i < n for which allowed[i] is not 0.
    static std::unique_ptr<IdFilter> from_mask(const std::uint8_t* allowed, std::size_t n);
    ~IdFilter();
    IdFilter(const IdFilter&) = delete;
    IdFilter& operator=(const IdFilter&) = delete;

    std::size_t size() const { return ids_.size(); }
    /// The ids, ascending.
    const std::vector<std::int64_t>& ids() const { return ids_; }
    bool contains(std::int64_t id) const;
    /// Bytes of memory, including what searches have prepared (see set_reusable).
    std::size_t nbytes() const;

    /// Keep the allowed entries that a search copies, for the next search with this filter.
    void set_reusable() { reusable_ = true; }
    bool reusable() const { return reusable_; }
    /// The allowed entries that searches have copied.
    FilteredGallery& prepared() const { return *prepared_; }

 private:
    std::vector<std::int64_t> ids_;
    std::vector<std::uint64_t> bits_;  // bit per id, from the smallest on; empty if ids are sparse
    bool reusable_ = false;
    std::unique_ptr<FilteredGallery> prepared_;
};

}  // namespace fasthash
