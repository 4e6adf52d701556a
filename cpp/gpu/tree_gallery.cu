#include <cstring>

#include "gpu/query_batch.h"
#include "gpu/tree_gallery.h"
#include "gpu/tree_kernels.h"
#include "sort_rows.h"

namespace fasthash::gpu {

namespace {

constexpr std::size_t kRowsPerPrefix = 64;  // as many as keep the lanes busy
constexpr unsigned kMostPrefixBits = 20;    // all prefixes are looked through for each distance
constexpr std::size_t kGiveUp = 4;          // a query that compares more than a 4th of the rows is scanned instead

/// The leading bits of a code as a number.
std::uint32_t prefix_of(const std::uint8_t* code, std::size_t n_bytes, unsigned n_bits) {
    std::uint32_t value = 0;
    for (std::size_t b = 0; b < 4; ++b) value = value << 8 | (b < n_bytes ? code[b] : 0u);
    return value >> (32 - n_bits);
}

/// The same of words, in which the first byte is the lowest.
struct QueryPrefixes {
    const std::uint32_t* words;
    std::size_t n;
    unsigned n_words;
    unsigned n_bits;
    std::uint32_t* values;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t step = std::size_t{block.n_x()} * block.n_threads();
        for (std::size_t i = std::size_t{block.x()} * block.n_threads() + block.thread(); i < n; i += step) {
            const std::uint32_t word = words[i * n_words];
            const std::uint32_t turned = word << 24 | (word & 0xff00) << 8 | (word >> 8 & 0xff00) | word >> 24;
            values[i] = turned >> (32 - n_bits);
        }
    }
};

}  // namespace

struct TreeGallery::Sorted {
    Sorted(CodeView codes, unsigned wanted_bits) : n_items(codes.n), n_bytes(codes.n_bytes) {
        const auto order = sort_rows(codes, nullptr);
        for (std::size_t i = 0; i < codes.n; ++i) {
            const std::uint8_t* code = codes.row(order[i]);
            if (i == 0 || std::memcmp(code, rows.data() + rows.size() - n_bytes, n_bytes) != 0) {
                runs.begins.push_back(static_cast<std::uint32_t>(i));
                rows.insert(rows.end(), code, code + n_bytes);
            }
            runs.items.push_back(order[i]);
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

    std::size_t n_items;
    std::size_t n_bytes;
    std::vector<std::uint8_t> rows;
    HostRuns runs;
    unsigned prefix_bits;
    std::vector<std::uint32_t> values;
    std::vector<std::uint32_t> begins;
};

TreeGallery::TreeGallery(CodeView codes, const std::int64_t* ids, std::int64_t first_id, Stream stream,
                         unsigned prefix_bits)
    : TreeGallery(Sorted(codes, prefix_bits), ids, first_id, stream) {}

TreeGallery::TreeGallery(const Sorted& sorted, const std::int64_t* ids, std::int64_t first_id, Stream stream)
    : FlatGallery(sorted.view(), sorted.runs, ids, sorted.n_items, first_id, stream),
      prefix_bits_(sorted.prefix_bits),
      values_(loaded(sorted.values.data(), sorted.values.size(), stream)),
      begins_(loaded(sorted.begins.data(), sorted.begins.size(), stream)) {
    finish(stream);
}

void TreeGallery::find(QueryBatch& batch) const {
    const Stream stream = batch.stream;
    Buffer<std::uint32_t> prefixes(batch.n, stream), rows_read(batch.n, stream);
    Buffer<std::uint8_t> given_up(batch.n, stream);
    launch(QueryPrefixes{batch.words.data(), batch.n, batch.n_words, prefix_bits_, prefixes.data()},
           {blocks_for(batch.n, kScanThreads)}, kScanThreads, 0, stream);
    const auto n_bits = static_cast<unsigned>(n_bytes() * 8);
    const TreeSearch kernel{{values_.data(), begins_.data(), static_cast<std::uint32_t>(values_.size()), prefix_bits_},
                            {codes().words(), codes().stride()},
                            batch.n_words,
                            n_bits,
                            batch.view(0, batch.n),
                            prefixes.data(),
                            batch.runs,
                            batch.mask,
                            batch.candidates(0),
                            batch.k,
                            static_cast<std::uint32_t>(n_rows() / kGiveUp + 1024),
                            given_up.data(),
                            rows_read.data()};
    launch(kernel, {static_cast<unsigned>(batch.n)}, kTreeThreads, TreeSearch::shared_bytes(batch.n_words, n_bits),
           stream);
    tighten(batch, 0, batch.n);
    std::vector<std::uint8_t> scanned(batch.n);
    copy_to_host(scanned.data(), given_up.data(), batch.n, stream);
    finish(stream);
    for (std::size_t query = 0; query < batch.n; ++query) {
        if (scanned[query] != 0) scan_carefully(batch, query);
    }
}

}  // namespace fasthash::gpu
