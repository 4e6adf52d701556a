#include "codes/id_summary.h"

#include <algorithm>
#include <vector>

#include "fasthash/threads.h"
#include "kernels/kernels.h"
#include "platform/number_range.h"

namespace fasthash {

IdSummary summarize(const DuplicateRuns& runs, const PackedNumbers& ids) {
    constexpr std::size_t kChunks = 16;
    const std::size_t n_rows = runs.n_rows(), n_groups = (n_rows + kGroup - 1) / kGroup;
    IdSummary all;
    all.least = PackedNumbers::of_width(ids.smallest(), ids.width());
    all.least.resize(n_groups);
    std::vector<IdSummary> chunks(kChunks);
    parallel_for(kChunks, [&](std::size_t p) {
        IdSummary& chunk = chunks[p];
        const NumberRange groups = chunk_of(n_groups, kChunks, p);
        std::size_t entry = runs.begin(std::min(groups.begin * kGroup, n_rows));
        std::uint64_t last = entry == 0 ? 0 : ids.offset(entry - 1);
        for (std::size_t group = groups.begin; group < groups.end; ++group) {
            std::uint64_t least = UINT64_MAX;
            for (std::size_t row = group * kGroup; row < std::min(n_rows, (group + 1) * kGroup); ++row) {
                std::uint64_t id = ids.offset(entry);
                // No branch: ids of successive rows are in random order, so it would often be mispredicted.
                chunk.ascend = chunk.ascend & (id > last || entry == 0);
                least = std::min(least, id);
                const std::size_t end = runs.is_shared(row) ? runs.end(row) : entry + 1;
                while (++entry < end) {
                    last = id;
                    id = ids.offset(entry);
                    if (id <= last) chunk.out_of_order = std::min(chunk.out_of_order, entry);
                }
                chunk.largest = std::max(chunk.largest, id);
                last = id;
            }
            chunk.smallest = std::min(chunk.smallest, least);
            all.least.set_offset(group, least);
        }
    });
    for (const IdSummary& chunk : chunks) {
        all.smallest = std::min(all.smallest, chunk.smallest);
        all.largest = std::max(all.largest, chunk.largest);
        all.ascend = all.ascend && chunk.ascend;
        all.out_of_order = std::min(all.out_of_order, chunk.out_of_order);
    }
    return all;
}

}  // namespace fasthash
