// A set of ids that a search may return.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace fasthash {

class FilteredGallery;

/// Made once, used by any number of searches, by several threads at once, on any index. Ids that an index does not hold
/// do no harm.
class IdFilter {
 public:
    /// Any ids in any order, also several times.
    explicit IdFilter(std::vector<std::int64_t> ids);
    /// The ids i < n for which allowed[i] is not 0.
    static std::unique_ptr<IdFilter> from_mask(const std::uint8_t* allowed, std::size_t n);
    ~IdFilter();
    IdFilter(const IdFilter&) = delete;
    IdFilter& operator=(const IdFilter&) = delete;

    std::size_t size() const { return ids_.size(); }
    /// In ascending order.
    const std::vector<std::int64_t>& ids() const { return ids_; }
    bool contains(std::int64_t id) const;
    /// Bytes of memory, those included that searches have prepared with it.
    std::size_t nbytes() const;

    /// Keep what a search prepares for the next one: worth it for a filter that is used again.
    void set_reusable() { reusable_ = true; }
    bool reusable() const { return reusable_; }
    /// What searches have prepared with it.
    FilteredGallery& prepared() const { return *prepared_; }

 private:
    std::vector<std::int64_t> ids_;
    std::vector<std::uint64_t> bits_;  // of the ids from the smallest on, where they are not far apart
    bool reusable_ = false;
    std::unique_ptr<FilteredGallery> prepared_;
};

}  // namespace fasthash
