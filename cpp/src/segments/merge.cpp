#include "segments/merge.h"

#include <algorithm>
#include <cstring>

#include "codes/level_tree.h"
#include "codes/sort_rows.h"
#include "codes/sorted_codes.h"

namespace fasthash {

class MergeCursor::OfSorted final : public Source {
 public:
    OfSorted(const SortedCodes& codes, const EntrySet& live) : entries_(codes), live_(live) {}

    bool next() override {
        if (begun_) advance();
        begun_ = true;
        while (!entries_.done() && !live_.contains(entry_)) advance();
        if (entries_.done()) return false;
        code = entries_.code();
        id = entries_.id();
        return true;
    }

 private:
    void advance() {
        entries_.next();
        ++entry_;
    }

    SortedCodesCursor entries_;
    const EntrySet& live_;
    std::size_t entry_ = 0;
    bool begun_ = false;
};

class MergeCursor::OfNew final : public Source {
 public:
    OfNew(const NewEntries& entries, Stopper& stopper)
        : entries_(entries), sorted_(entries.codes, entries.ids, stopper) {}

    bool next() override {
        while (next_ == sorted_.n()) {
            if (!sorted_.next()) return false;
            next_ = 0;
        }
        code = sorted_.code(next_);
        id = entries_.id(sorted_.row(next_));
        ++next_;
        return true;
    }

 private:
    const NewEntries entries_;
    SortedRanges sorted_;
    std::size_t next_ = 0;
};

MergeCursor::MergeCursor(std::vector<LiveSegment> segments, const NewEntries& entries, Stopper& stopper)
    : n_bytes_(entries.codes.n_bytes), segments_(std::move(segments)), n_entries_(entries.codes.n) {
    const auto count = [this](std::int64_t id) {
        smallest_id_ = std::min(smallest_id_, id);
        largest_id_ = std::max(largest_id_, id);
    };
    for (const LiveSegment& each : segments_) {
        n_entries_ += each.n_live;
        if (each.whole()) {
            count(each.segment->smallest_id());
            count(each.segment->largest_id());
        } else {
            for (std::size_t entry = 0; entry < each.segment->n_entries(); ++entry) {
                if (each.live.contains(entry)) count(each.segment->id(entry));
            }
        }
        if (const SortedCodes* sorted = each.segment->sorted_codes()) {
            join(std::make_unique<OfSorted>(*sorted, each.live));
        } else {
            loose_.append(each, n_bytes_);
        }
    }
    for (std::size_t row = 0; row < entries.codes.n; ++row) count(entries.id(row));
    NewEntries unsorted = entries;
    if (loose_.n() > 0) {
        loose_.append(entries);
        unsorted = loose_.view(n_bytes_);
    }
    if (unsorted.codes.n > 0) {
        join(std::make_unique<OfNew>(unsorted, stopper));
    }
}

void MergeCursor::join(std::unique_ptr<Source> source) {
    if (source->next()) sources_.push_back(std::move(source));
    choose();
}

void MergeCursor::next() {
    if (!current_->next()) {
        const auto at_end = [this](const std::unique_ptr<Source>& source) { return source.get() == current_; };
        sources_.erase(std::find_if(sources_.begin(), sources_.end(), at_end));
        current_ = nullptr;
    }
    if (sources_.size() != 1 || current_ == nullptr) choose();
}

void MergeCursor::choose() {
    current_ = nullptr;
    for (const auto& source : sources_) {
        if (current_ != nullptr) {
            const int order = std::memcmp(source->code, current_->code, n_bytes_);
            if (order > 0 || (order == 0 && source->id > current_->id)) continue;
        }
        current_ = source.get();
    }
}

std::vector<LevelNodeList> list_nodes(MergeCursor entries, const LevelLayout& layout) {
    std::vector<LevelNodeList> levels(layout.n_levels() - 1);
    std::vector<std::uint8_t> last;
    for (; !entries.done(); entries.next()) {
        const std::uint8_t* code = entries.code();
        const std::size_t first_new = last.empty() ? 0 : first_new_level(code, last.data(), layout);
        for (std::size_t depth = 0; depth < levels.size(); ++depth) {
            LevelNodeList& level = levels[depth];
            if (depth >= first_new) {
                level.prefixes.insert(level.prefixes.end(), code, code + layout.offset(depth + 1));
                level.n_entries.push_back(0);
            }
            ++level.n_entries.back();
        }
        if (first_new < levels.size()) last.assign(code, code + layout.n_bytes());
    }
    return levels;
}

std::vector<std::size_t> count_nodes(MergeCursor entries, const LevelLayout& layout) {
    std::vector<std::size_t> nodes(layout.n_levels());
    std::vector<std::uint8_t> last;
    for (; !entries.done(); entries.next()) {
        std::size_t level = last.empty() ? 0 : first_new_level(entries.code(), last.data(), layout);
        if (level < nodes.size()) last.assign(entries.code(), entries.code() + layout.n_bytes());
        for (; level < nodes.size(); ++level) ++nodes[level];
    }
    return nodes;
}

}  // namespace fasthash
