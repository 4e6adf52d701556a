#include "segments/merge.h"

#include <algorithm>
#include <cstring>

#include "codes/level_tree.h"
#include "codes/sort_rows.h"
#include "codes/sorted_codes.h"

namespace fasthash {

class MergeCursor::OfSorted final : public Source {
 public:
    OfSorted(const SortedCodes& codes, const ItemSet& live) : items_(codes), live_(live) {}

    bool next() override {
        if (begun_) advance();
        begun_ = true;
        while (!items_.done() && !live_.contains(item_)) advance();
        if (items_.done()) return false;
        code = items_.code();
        id = items_.id();
        return true;
    }

 private:
    void advance() {
        items_.next();
        ++item_;
    }

    SortedCodesCursor items_;
    const ItemSet& live_;
    std::size_t item_ = 0;
    bool begun_ = false;
};

class MergeCursor::OfNew final : public Source {
 public:
    OfNew(const NewItems& items, Stopper& stopper) : items_(items), sorted_(items.codes, items.ids, stopper) {}

    bool next() override {
        while (next_ == sorted_.n()) {
            if (!sorted_.next()) return false;
            next_ = 0;
        }
        code = sorted_.code(next_);
        id = items_.id(sorted_.row(next_));
        ++next_;
        return true;
    }

 private:
    const NewItems items_;
    SortedRanges sorted_;
    std::size_t next_ = 0;
};

MergeCursor::MergeCursor(std::vector<LiveSegment> parts, const NewItems& items, Stopper& stopper)
    : n_bytes_(items.codes.n_bytes), parts_(std::move(parts)), n_items_(items.codes.n) {
    const auto count = [this](std::int64_t id) {
        smallest_id_ = std::min(smallest_id_, id);
        largest_id_ = std::max(largest_id_, id);
    };
    for (const LiveSegment& part : parts_) {
        n_items_ += part.n_live;
        if (part.whole()) {
            count(part.segment->smallest_id());
            count(part.segment->largest_id());
        } else {
            for (std::size_t item = 0; item < part.segment->n_items(); ++item) {
                if (part.live.contains(item)) count(part.segment->id(item));
            }
        }
        if (const SortedCodes* sorted = part.segment->sorted_codes()) {
            join(std::make_unique<OfSorted>(*sorted, part.live));
        } else {
            loose_.append(part, n_bytes_);
        }
    }
    for (std::size_t row = 0; row < items.codes.n; ++row) count(items.id(row));
    NewItems unsorted = items;
    if (loose_.n() > 0) {
        loose_.append(items);
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

std::vector<std::size_t> count_nodes(MergeCursor items, const LevelLayout& layout) {
    std::vector<std::size_t> nodes(layout.n_levels());
    std::vector<std::uint8_t> last;
    for (; !items.done(); items.next()) {
        std::size_t level = last.empty() ? 0 : first_new_level(items.code(), last.data(), layout);
        if (level < nodes.size()) last.assign(items.code(), items.code() + layout.n_bytes());
        for (; level < nodes.size(); ++level) ++nodes[level];
    }
    return nodes;
}

}  // namespace fasthash
