#include "fasthash/index.h"

#include <string>

#include "fasthash/error.h"
#include "stopper.h"

namespace fasthash {
namespace {

void check_width(const char* name, const CodeView& codes, const LevelLayout& layout) {
    if (codes.n_bytes == layout.n_bytes()) return;
    throw ArgumentError(std::string(name) + " must be " + std::to_string(layout.n_bytes()) + " bytes wide for " +
                        std::to_string(layout.n_bits()) + " bits, got " + std::to_string(codes.n_bytes) + " bytes");
}

}  // namespace

std::size_t Index::size() const {
    const auto lock = read_lock();
    return do_size();
}

std::size_t Index::nbytes() const {
    const auto lock = read_lock();
    return do_nbytes();
}

void Index::add(CodeView codes, const std::int64_t* ids) {
    check_width("codes", codes, layout_);
    const std::unique_lock gate(gate_);
    const std::unique_lock lock(mutex_);
    if (codes.n > 0) do_add(codes, ids);
}

void Index::search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning, std::int32_t* distances,
                   std::int64_t* ids, QueryStats* stats, const Interrupt& interrupt) const {
    check_width("queries", queries, layout_);
    if (k < 1) throw ArgumentError("k must be at least 1, got 0");
    if (pruning && !(pruning->keep > 0 && pruning->keep <= 1)) {
        throw ArgumentError("keep must be above 0 and at most 1, got " + std::to_string(pruning->keep));
    }
    const auto lock = read_lock();
    Stopper stopper(interrupt);
    do_search(queries, k, pruning, distances, ids, stats, stopper);
}

std::shared_lock<std::shared_mutex> Index::read_lock() const {
    const std::unique_lock gate(gate_);
    return std::shared_lock(mutex_);
}

void Index::save(const std::string& path) const {
    const auto lock = read_lock();
    do_save(path);
}

}  // namespace fasthash
