// The exhaustive index: compares every code. The oracle of all others, and the fastest one for small galleries.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fasthash/index.h"

namespace fasthash {

class SlicedCodes;

class FlatIndex final : public Index {
 public:
    explicit FlatIndex(std::size_t n_bits);
    ~FlatIndex() override;

    /// Codes in the order of adding, with their ids; no ids stand for 0 .. n - 1. Throws ArgumentError.
    static std::unique_ptr<FlatIndex> from_codes(SlicedCodes codes, std::vector<std::int64_t> ids);

    IndexKind kind() const override { return IndexKind::flat; }

 protected:
    std::size_t do_size() const override;
    std::size_t do_nbytes() const override;
    void do_add(CodeView codes, const std::int64_t* ids) override;
    void do_search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning, std::int32_t* distances,
                   std::int64_t* ids, QueryStats* stats, Stopper& stopper) const override;
    void do_save(const std::string& path) const override;

 private:
    bool ids_are_counted() const { return ids_.empty(); }

    std::unique_ptr<SlicedCodes> codes_;
    std::vector<std::int64_t> ids_;  // empty while they are 0 .. n - 1
    bool ids_ascend_ = true;         // each is larger than the one before
    std::uint64_t next_id_ = 0;
};

}  // namespace fasthash
