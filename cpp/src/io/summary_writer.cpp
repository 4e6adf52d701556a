#include "io/summary_writer.h"

#include "search/planner.h"

namespace fasthash {

SummaryWriter::SummaryWriter(RawHeader& raw, std::size_t n_bytes, bool scanned) : raw_(raw), n_bytes_(n_bytes) {
    raw.has_summary = 1;
    if (raw.n_clusters > 0 || scanned) return;
    if (raw.directory_bits == 0) {
        const PlanChoice choice = plan_of_mapped(static_cast<std::size_t>(raw.n_rows), n_bytes);
        raw.directory_bits = static_cast<std::uint8_t>(choice.substring_bits);
        cost = choice.cost;
    }
    begin_.assign(static_cast<std::size_t>(ClusterParts::n_begins(raw)), 0);
}

void SummaryWriter::write(IndexWriter& writer) {
    const ClusterParts parts(raw_, n_bytes_);
    const std::uint8_t zeros[8] = {};
    writer.append(zeros, static_cast<std::size_t>(parts.largest - parts.centroids_end));
    writer.append(&largest_, sizeof largest_);
    writer.append(&cost, sizeof cost);
    for (const std::uint64_t offset : least_) writer.append(&offset, raw_.id_bytes);
    writer.append_slack();
    if (begin_.empty()) return;
    writer.append(zeros, static_cast<std::size_t>(parts.directory - parts.least_end));
    for (std::size_t value = 1; value < begin_.size(); ++value) begin_[value] += begin_[value - 1];
    writer.append(begin_.data(), begin_.size() * sizeof begin_[0]);
}

}  // namespace fasthash
