#include "codes/item_set.h"

#include <algorithm>
#include <set>

#include "codes/code_bits.h"

namespace fasthash {

std::size_t ItemSet::count(NumberRange items) const {
    if (has_all()) return items.size();
    std::size_t n = 0;
    for (std::size_t item = items.begin; item < items.end;) {
        const std::size_t next = std::min(items.end, (item / 64 + 1) * 64);
        const std::uint64_t wanted = ~std::uint64_t{0} >> (64 - (next - item)) << item % 64;
        n += count_bits(word(item / 64) & wanted);
        item = next;
    }
    return n;
}

std::size_t ItemSet::nbytes() const {
    std::set<const Chunk*> distinct;
    for (const auto& chunk : chunks_) distinct.insert(chunk.get());
    return chunks_.capacity() * sizeof chunks_[0] + distinct.size() * sizeof(Chunk);
}

void ItemSet::remove(const std::vector<std::size_t>& items, std::size_t n) {
    if (items.empty()) return;
    constexpr std::size_t kItems = kWords * 64;
    if (has_all()) {
        auto full = std::make_shared<Chunk>();
        full->fill(~std::uint64_t{0});
        chunks_.assign((n + kItems - 1) / kItems, full);
    }
    for (auto item = items.begin(); item != items.end();) {
        std::shared_ptr<const Chunk>& chunk = chunks_[*item / kItems];
        auto changed = std::make_shared<Chunk>(*chunk);
        const std::size_t end = (*item / kItems + 1) * kItems;
        for (; item != items.end() && *item < end; ++item) {
            (*changed)[*item % kItems / 64] &= ~(std::uint64_t{1} << *item % 64);
        }
        chunk = std::move(changed);
    }
}

}  // namespace fasthash
