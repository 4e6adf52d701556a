#include "codes/arranged_codes.h"

#include <algorithm>
#include <cstring>

#include "codes/k_majority.h"
#include "fasthash/threads.h"

namespace fasthash {

namespace {

constexpr std::size_t kPiece = 4096;  // rows that a thread takes at a time
constexpr std::size_t kMostWorkingMemory = std::size_t{48} << 20;
constexpr std::size_t kAhead = 32;            // codes and ids are fetched so many rows before their turn
constexpr std::size_t kFewDuplicates = 8;     // up to this share, 1 / 8, duplicate codes take less than all ids
constexpr std::size_t kFewerDuplicates = 32;  // where ids are stored, and duplicate codes take more memory
constexpr std::size_t kMostSorted = 1 << 18;  // ids; scans of more codes gain less than sorting their ids costs

struct IdOfRow {
    std::int64_t id;
    std::uint32_t row;
};

template <typename Piece>
void for_pieces(std::size_t n, Stopper& stopper, Piece piece) {
    parallel_for((n + kPiece - 1) / kPiece, [&](std::size_t i) {
        if (!stopper.stopped()) piece(i * kPiece, std::min((i + 1) * kPiece, n));
    });
    stopper.check();
}

bool has_consecutive_ids(const SortedCodes& sorted) {
    const std::uint64_t range =
        static_cast<std::uint64_t>(sorted.largest_id()) - static_cast<std::uint64_t>(sorted.smallest_id());
    return range == sorted.n_entries() - 1;
}

// Calls visit(id, row) for every entry.
template <typename Visit>
void for_entries(const SortedCodes& sorted, Visit visit) {
    for (std::size_t row = 0; row < sorted.n_rows(); ++row) {
        const NumberRange entries = sorted.entries(row);
        for (std::size_t entry = entries.begin; entry < entries.end; ++entry) visit(sorted.id(entry), row);
    }
}

// The ring of each row: its cluster * n_rings + its distance to the centroid.
PackedNumbers rings_of(const SortedCodes& sorted, CodeView centroids, std::size_t n_rings, Stopper& stopper) {
    PackedNumbers rings(0, static_cast<std::int64_t>(centroids.n * n_rings));
    rings.resize(sorted.n_rows());
    const CentroidNeighbours neighbours(centroids);
    for_pieces(sorted.n_rows(), stopper, [&](std::size_t begin, std::size_t end) {
        Array<std::uint8_t> scratch;
        const CodeView codes = sorted.codes(begin, end, scratch);
        CentroidSearch search(centroids, &neighbours);
        for (std::size_t i = 0; i < codes.n; ++i) {
            const NearestCentroid nearest = search.nearest(codes.row(i));
            rings.set(begin + i, static_cast<std::int64_t>(nearest.number * n_rings + nearest.distance));
        }
    });
    return rings;
}

}  // namespace

bool ArrangedCodes::suits_order_of_ids(const SortedCodes& sorted) {
    const std::size_t n = sorted.n_entries(), n_duplicates = n - sorted.n_rows();
    if (!has_consecutive_ids(sorted)) return n_duplicates <= n / kFewerDuplicates && n <= kMostSorted;
    const std::size_t working_memory = n * (sorted.n_bytes() + 2 * sizeof(std::uint32_t));
    return n_duplicates <= n / kFewDuplicates && working_memory <= kMostWorkingMemory;
}

ArrangedCodes::ArrangedCodes(SortedCodes sorted, Stopper& stopper)
    : RowIds(sorted.n_entries(), sorted.smallest_id(), sorted.largest_id()), codes_(sorted.n_bytes()) {
    PackedNumbers row_at(0, static_cast<std::int64_t>(sorted.n_rows()));
    row_at.resize(sorted.n_entries());
    if (has_consecutive_ids(sorted)) {
        // Ids of a file that was not checked may repeat, and leave others out.
        for (std::size_t i = 0; i < row_at.size(); ++i) row_at.set_offset(i, 0);
        for_entries(sorted, [&](std::int64_t id, std::size_t row) {
            row_at.set_offset(static_cast<std::size_t>(id - sorted.smallest_id()), row);
        });
        for (std::size_t i = 0; i < row_at.size(); ++i) {
            append(sorted.smallest_id() + static_cast<std::int64_t>(i), true);
        }
    } else {
        std::vector<IdOfRow> by_id;
        by_id.reserve(sorted.n_entries());
        for_entries(sorted,
                    [&](std::int64_t id, std::size_t row) { by_id.push_back({id, static_cast<std::uint32_t>(row)}); });
        std::sort(by_id.begin(), by_id.end(), [](const IdOfRow& x, const IdOfRow& y) { return x.id < y.id; });
        for (std::size_t i = 0; i < by_id.size(); ++i) {
            append(by_id[i].id, true);
            row_at.set_offset(i, by_id[i].row);
        }
    }
    finish();
    copy_codes(sorted, row_at, stopper);
}

ArrangedCodes::ArrangedCodes(SortedCodes sorted, Array<std::uint8_t> centroids, Stopper& stopper)
    : RowIds(sorted.n_entries(), sorted.smallest_id(), sorted.largest_id()),
      codes_(sorted.n_bytes()),
      centroids_(std::move(centroids)) {
    centroids_.shrink_to_fit();
    const std::size_t n = sorted.n_rows(), n_clusters = this->centroids().n;
    PackedNumbers row_at(0, static_cast<std::int64_t>(n));
    row_at.resize(n);
    {  // a counting sort by ring
        const PackedNumbers rings = rings_of(sorted, this->centroids(), n_rings(), stopper);
        ring_begin_.assign(n_clusters * n_rings() + 1, 0);
        for (std::size_t row = 0; row < n; ++row) ++ring_begin_[rings.offset(row) + 1];
        for (std::size_t ring = 1; ring < ring_begin_.size(); ++ring) ring_begin_[ring] += ring_begin_[ring - 1];
        std::vector<std::uint32_t> next(ring_begin_.begin(), ring_begin_.end() - 1);
        for (std::size_t row = 0; row < n; ++row) row_at.set_offset(next[rings.offset(row)]++, row);
    }
    find_radii();
    copy_codes(sorted, row_at, stopper);
    sorted.release_codes();  // the ids are still needed
    for (std::size_t row = 0; row < n; ++row) {
        if (row + kAhead < n) sorted.prefetch(row_at.offset(row + kAhead));
        const NumberRange entries = sorted.entries(row_at.offset(row));
        for (std::size_t entry = entries.begin; entry < entries.end; ++entry) {
            append(sorted.id(entry), entry == entries.begin);
        }
        if (row % 65536 == 0) stopper.check();
    }
    finish();
}

ArrangedCodes::ArrangedCodes(ByteMajorCodes codes, RowIds ids, Array<std::uint8_t> centroids,
                             Array<std::uint32_t> ring_begin)
    : RowIds(std::move(ids)),
      codes_(std::move(codes)),
      centroids_(std::move(centroids)),
      ring_begin_(std::move(ring_begin)) {
    find_radii();
}

void ArrangedCodes::find_radii() {
    for (std::size_t c = 0; c < centroids().n; ++c) {
        Annulus radii{0, static_cast<std::int32_t>(n_bytes()) * 8};
        while (!radii.empty() && rows(c, {radii.first, radii.first}).size() == 0) ++radii.first;
        while (!radii.empty() && rows(c, {radii.last, radii.last}).size() == 0) --radii.last;
        radii_.push_back(radii);
    }
}

// Row i takes the code of row row_at[i] of the sorted codes.
void ArrangedCodes::copy_codes(const SortedCodes& sorted, const PackedNumbers& row_at, Stopper& stopper) {
    const std::size_t n_bytes = sorted.n_bytes();
    Array<std::uint8_t> rows(row_at.size() * n_bytes);
    for_pieces(row_at.size(), stopper, [&](std::size_t begin, std::size_t end) {
        Array<std::uint8_t> scratch;
        for (std::size_t row = begin; row < end; ++row) {
            if (row + kAhead < end) sorted.prefetch_code(row_at.offset(row + kAhead));
            const auto from = static_cast<std::size_t>(row_at.offset(row));
            const CodeView code = sorted.codes(from, from + 1, scratch);
            std::memcpy(rows.data() + row * n_bytes, code.data, n_bytes);
        }
    });
    codes_ = ByteMajorCodes::from_rows(std::move(rows), n_bytes);
}

}  // namespace fasthash
