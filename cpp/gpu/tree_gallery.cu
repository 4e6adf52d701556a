#include <cstring>

#include "codes/sort_rows.h"
#include "gpu/pruned_kernel.h"
#include "gpu/query_batch.h"
#include "gpu/tree_gallery.h"
#include "gpu/tree_kernels.h"

namespace fasthash::gpu {

namespace {

constexpr std::size_t kRowsPerPrefix = 64;                     // enough to keep the lanes of a warp busy
constexpr unsigned kMostPrefixBits = 20;                       // every prefix is compared once per distance
constexpr std::size_t kScratchBytes = std::size_t{256} << 20;  // kept nodes of all queries
constexpr std::size_t kGiveUp = 4;  // a query that reads more than 1/kGiveUp of the rows is scanned instead

/// The leading bits of a code as a number.
std::uint32_t prefix_of(const std::uint8_t* code, std::size_t n_bytes, unsigned n_bits) {
    std::uint32_t value = 0;
    for (std::size_t b = 0; b < 4; ++b) value = value << 8 | (b < n_bytes ? code[b] : 0u);
    return value >> (32 - n_bits);
}

/// The leading bits of queries stored as words, whose lowest byte comes first.
struct QueryPrefixes {
    const std::uint32_t* words;
    std::size_t n;
    unsigned n_words;
    unsigned n_bits;
    std::uint32_t* values;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n; i += step) {
            const std::uint32_t word = words[i * n_words];
            const std::uint32_t turned = word << 24 | (word & 0xff00) << 8 | (word >> 8 & 0xff00) | word >> 24;
            values[i] = turned >> (32 - n_bits);
        }
    }
};

}  // namespace

struct TreeGallery::Sorted {
    Sorted(CodeView codes, unsigned wanted_bits) : n_entries(codes.n), n_bytes(codes.n_bytes) {
        Stopper stopper;
        SortedRanges sorted(codes, nullptr, stopper);
        while (sorted.next()) {
            for (std::size_t i = 0; i < sorted.n(); ++i) {
                const std::uint8_t* code = sorted.code(i);
                if (rows.empty() || std::memcmp(code, rows.data() + rows.size() - n_bytes, n_bytes) != 0) {
                    runs.begins.push_back(static_cast<std::uint32_t>(runs.entries.size()));
                    rows.insert(rows.end(), code, code + n_bytes);
                }
                runs.entries.push_back(sorted.row(i));
            }
        }
        const std::size_t n_rows = runs.begins.size();
        runs.begins.push_back(static_cast<std::uint32_t>(codes.n));
        prefix_bits = wanted_bits == 0 ? 1 : wanted_bits;
        const auto most = static_cast<unsigned>(std::min<std::size_t>(kMostPrefixBits, n_bytes * 8));
        while (wanted_bits == 0 && prefix_bits < most && (std::size_t{1} << prefix_bits) * kRowsPerPrefix < n_rows)
            ++prefix_bits;
        for (std::size_t row = 0; row < n_rows; ++row) {
            const std::uint32_t value = prefix_of(rows.data() + row * n_bytes, n_bytes, prefix_bits);
            if (row != 0 && value == values.back()) continue;
            values.push_back(value);
            begins.push_back(static_cast<std::uint32_t>(row));
        }
        begins.push_back(static_cast<std::uint32_t>(n_rows));
    }

    CodeView view() const { return {rows.data(), runs.begins.size() - 1, n_bytes}; }

    std::size_t n_entries;
    std::size_t n_bytes;
    std::vector<std::uint8_t> rows;
    HostRuns runs;
    unsigned prefix_bits;
    std::vector<std::uint32_t> values;
    std::vector<std::uint32_t> begins;
};

/// The nodes of a level: one for each distinct prefix of whole levels.
struct TreeGallery::Level {
    Level(const Sorted& sorted, const LevelLayout& layout, std::size_t depth, Stream stream)
        : Level(nodes_of(sorted, layout, depth), layout, depth, stream) {}

    LevelView view() const {
        return {{keys.words(), keys.stride()},
                static_cast<unsigned>(keys.n_bytes()),
                offset,
                static_cast<std::uint32_t>(keys.n()),
                child_begins.size() == 0 ? nullptr : child_begins.data(),
                row_begins.data()};
    }
    std::size_t nbytes() const { return keys.device_nbytes() + child_begins.nbytes() + row_begins.nbytes(); }

    struct Nodes {
        std::vector<std::uint8_t> keys;
        std::vector<std::uint32_t> row_begins;
        std::vector<std::uint32_t> child_begins;
    };

    static Nodes nodes_of(const Sorted& sorted, const LevelLayout& layout, std::size_t depth) {
        const CodeView rows = sorted.view();
        const std::size_t offset = layout.offset(depth), end = layout.offset(depth + 1);
        const bool last = depth + 2 == layout.n_levels();
        const std::size_t child_end = last ? end : layout.offset(depth + 2);
        Nodes nodes;
        std::uint32_t n_children = 0;
        for (std::size_t row = 0; row < rows.n; ++row) {
            const std::uint8_t* code = rows.row(row);
            const bool first = row == 0;
            if (first || std::memcmp(code, code - rows.n_bytes, end) != 0) {
                nodes.keys.insert(nodes.keys.end(), code + offset, code + end);
                nodes.row_begins.push_back(static_cast<std::uint32_t>(row));
                if (!last) nodes.child_begins.push_back(n_children);
            }
            if (first || std::memcmp(code, code - rows.n_bytes, child_end) != 0) ++n_children;
        }
        nodes.row_begins.push_back(static_cast<std::uint32_t>(rows.n));
        if (!last) nodes.child_begins.push_back(n_children);
        return nodes;
    }

    Level(const Nodes& nodes, const LevelLayout& layout, std::size_t depth, Stream stream)
        : keys({nodes.keys.data(), nodes.row_begins.size() - 1, layout.level_bytes(depth)}, stream),
          offset(static_cast<unsigned>(layout.offset(depth))),
          child_begins(loaded(nodes.child_begins.data(), nodes.child_begins.size(), stream)),
          row_begins(loaded(nodes.row_begins.data(), nodes.row_begins.size(), stream)) {
        finish(stream);  // before the nodes are freed
    }

    Planes keys;
    unsigned offset;
    Buffer<std::uint32_t> child_begins;
    Buffer<std::uint32_t> row_begins;
};

TreeGallery::TreeGallery(CodeView codes, const LevelLayout& layout, const std::int64_t* ids, std::int64_t first_id,
                         Stream stream, std::size_t room, unsigned prefix_bits)
    : TreeGallery(Sorted(codes, prefix_bits), layout, ids, first_id, stream, room) {}

TreeGallery::TreeGallery(const Sorted& sorted, const LevelLayout& layout, const std::int64_t* ids,
                         std::int64_t first_id, Stream stream, std::size_t room)
    : FlatGallery(sorted.view(), sorted.runs, ids, sorted.n_entries, first_id, stream, room),
      prefix_bits_(sorted.prefix_bits),
      values_(loaded(sorted.values.data(), sorted.values.size(), stream)),
      begins_(loaded(sorted.begins.data(), sorted.begins.size(), stream)) {
    for (std::size_t depth = 0; depth + 1 < layout.n_levels() && sorted.n_entries != 0; ++depth) {
        levels_.emplace_back(sorted, layout, depth, stream);
    }
    finish(stream);
}

TreeGallery::~TreeGallery() = default;

std::size_t TreeGallery::nbytes() const {
    std::size_t sum = FlatGallery::nbytes() + values_.nbytes() + begins_.nbytes();
    for (const Level& level : levels_) sum += level.nbytes();
    return sum;
}

void TreeGallery::search_pruned(CodeView queries, std::uint32_t k, const Pruning& pruning, std::int32_t* distances,
                                std::int64_t* ids, bool* failed, Stream stream, const Interrupt& interrupt) const {
    std::vector<LevelView> views;
    std::size_t n_scratch = 1;  // most nodes kept at a level but the last
    for (const Level& level : levels_) {
        views.push_back(level.view());
        if (views.size() < levels_.size()) n_scratch = std::max(n_scratch, level.keys.n());
    }
    const Buffer<LevelView> levels = loaded(views.data(), views.size(), stream);
    const auto n_bits = static_cast<unsigned>(n_bytes() * 8);
    const auto find_pruned = [&](QueryBatch& batch, std::size_t first) {
        const std::size_t at_once =
            std::clamp<std::size_t>(kScratchBytes / (2 * n_scratch * sizeof(KeptNode)), 1, batch.n);
        Buffer<KeptNode> scratch(at_once * 2 * n_scratch, stream);
        Buffer<std::uint8_t> overflowed(batch.n, stream);
        for (std::size_t query = 0; query < batch.n; query += at_once) {
            const std::size_t n_here = std::min(at_once, batch.n - query);
            const PrunedSearch kernel{levels.data(),
                                      static_cast<unsigned>(levels_.size()),
                                      codes(),
                                      batch.n_words,
                                      n_bits,
                                      static_cast<std::uint32_t>(n()),
                                      batch.view(query, n_here),
                                      batch.runs,
                                      batch.candidates(query),
                                      batch.k,
                                      pruning.keep,
                                      pruning.mode,
                                      scratch.data(),
                                      static_cast<std::uint32_t>(n_scratch),
                                      overflowed.data() + query};
            batch.stopper.check();
            launch(kernel, {static_cast<unsigned>(n_here)}, kPrunedThreads,
                   PrunedSearch::shared_bytes(batch.n_words, n_bits), stream);
        }
        tighten(batch, 0, batch.n);
        std::vector<std::uint8_t> full(batch.n);
        copy_to_host(full.data(), overflowed.data(), batch.n, stream);
        finish(stream);
        for (std::size_t query = 0; query < batch.n; ++query) failed[first + query] = full[query] != 0;
    };
    std::fill_n(failed, queries.n, false);
    search_by(find_pruned, queries, k, nullptr, distances, ids, stream, interrupt);
}

void TreeGallery::find(QueryBatch& batch) const {
    const Stream stream = batch.stream;
    Buffer<std::uint32_t> prefixes(batch.n, stream);
    Buffer<std::uint8_t> given_up(batch.n, stream);
    launch(QueryPrefixes{batch.words.data(), batch.n, batch.n_words, prefix_bits_, prefixes.data()},
           {blocks_for(batch.n, kScanThreads)}, kScanThreads, 0, stream);
    const auto n_bits = static_cast<unsigned>(n_bytes() * 8);
    const TreeSearch kernel{{values_.data(), begins_.data(), static_cast<std::uint32_t>(values_.size()), prefix_bits_},
                            codes(),
                            batch.n_words,
                            n_bits,
                            batch.view(0, batch.n),
                            prefixes.data(),
                            batch.runs,
                            batch.mask,
                            batch.candidates(0),
                            batch.k,
                            static_cast<std::uint32_t>(n_rows() / kGiveUp + 1024),
                            given_up.data()};
    launch(kernel, {static_cast<unsigned>(batch.n)}, kTreeThreads, TreeSearch::shared_bytes(batch.n_words, n_bits),
           stream);
    tighten(batch, 0, batch.n);
    std::vector<std::uint8_t> scanned(batch.n);
    copy_to_host(scanned.data(), given_up.data(), batch.n, stream);
    finish(stream);
    std::vector<std::uint32_t> queries;
    for (std::size_t query = 0; query < batch.n; ++query) {
        if (scanned[query] != 0) queries.push_back(static_cast<std::uint32_t>(query));
    }
    if (queries.empty()) return;
    const Buffer<std::uint32_t> numbers = loaded(queries.data(), queries.size(), stream);
    QueryBatch rest(batch, numbers);
    scan_all(rest);
    rest.give_back(batch, numbers);
    finish(stream);  // before the numbers are freed
}

}  // namespace fasthash::gpu
