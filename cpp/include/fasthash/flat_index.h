// The exhaustive index: compares every code. The oracle of all others, and the fastest one for small galleries.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fasthash/index.h"

namespace fasthash {

class FlatIndex final : public Index {
 public:
    explicit FlatIndex(std::size_t n_bits) : Index(LevelLayout({n_bits})) {}

    /// Codes in the order of adding, with their ids; no ids stand for 0 .. n - 1. Throws ArgumentError.
    static std::unique_ptr<FlatIndex> from_codes(std::size_t n_bits, std::vector<std::uint8_t> codes,
                                                 std::vector<std::int64_t> ids);

    IndexKind kind() const override { return IndexKind::flat; }

 protected:
    std::size_t do_size() const override { return codes_.size() / layout().n_bytes(); }
    std::size_t do_nbytes() const override;
    void do_add(CodeView codes, const std::int64_t* ids) override;
    void do_search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning, std::int32_t* distances,
                   std::int64_t* ids, QueryStats* stats) const override;
    void do_save(const std::string& path) const override;

 private:
    bool ids_are_counted() const { return ids_.empty(); }

    std::vector<std::uint8_t> codes_;
    std::vector<std::int64_t> ids_;  // empty while they are 0 .. n - 1
    std::uint64_t next_id_ = 0;
};

}  // namespace fasthash
