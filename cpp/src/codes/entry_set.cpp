#include "codes/entry_set.h"

#include <algorithm>
#include <set>

#include "codes/code_bits.h"

namespace fasthash {

std::size_t EntrySet::count(NumberRange entries) const {
    if (has_all()) return entries.size();
    std::size_t n = 0;
    for (std::size_t entry = entries.begin; entry < entries.end;) {
        const std::size_t next = std::min(entries.end, (entry / 64 + 1) * 64);
        const std::uint64_t wanted = ~std::uint64_t{0} >> (64 - (next - entry)) << entry % 64;
        n += count_bits(word(entry / 64) & wanted);
        entry = next;
    }
    return n;
}

std::size_t EntrySet::nbytes() const {
    std::set<const Block*> distinct;
    for (const auto& block : blocks_) distinct.insert(block.get());
    return blocks_.capacity() * sizeof blocks_[0] + distinct.size() * sizeof(Block);
}

void EntrySet::remove(const std::vector<std::size_t>& entries, std::size_t n) {
    if (entries.empty()) return;
    constexpr std::size_t kEntries = kWords * 64;
    if (has_all()) {
        auto full = std::make_shared<Block>();
        full->fill(~std::uint64_t{0});
        blocks_.assign((n + kEntries - 1) / kEntries, full);
    }
    for (auto entry = entries.begin(); entry != entries.end();) {
        std::shared_ptr<const Block>& block = blocks_[*entry / kEntries];
        auto changed = std::make_shared<Block>(*block);
        const std::size_t end = (*entry / kEntries + 1) * kEntries;
        for (; entry != entries.end() && *entry < end; ++entry) {
            (*changed)[*entry % kEntries / 64] &= ~(std::uint64_t{1} << *entry % 64);
        }
        block = std::move(changed);
    }
}

}  // namespace fasthash
