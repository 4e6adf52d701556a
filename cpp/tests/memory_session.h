// A session of all operations of an index, each step repeated while allocations fail. Used by memory_test.cpp.
#pragma once

#include <dirent.h>

#include <functional>

#include "platform/files.h"
#include "refusals.h"
#include "testing.h"

namespace fasthash::testing {

namespace {

constexpr std::size_t kWidth = 8;
const LevelLayout kLayout({8, 16, 40});
std::string path;  // of a file; long enough that no string holds it without an allocation

/// The result of any call.
struct Answer {
    std::vector<std::int64_t> numbers;
    std::vector<std::uint8_t> bytes;

    bool operator==(const Answer& other) const { return numbers == other.numbers && bytes == other.bytes; }

    template <typename T>
    void join(const std::vector<T>& more) {
        numbers.insert(numbers.end(), more.begin(), more.end());
    }
    void join(const Found& found) {
        join(found.distances);
        join(found.ids);
    }
    void join(const Export& entries) {
        join(entries.ids);
        bytes.insert(bytes.end(), entries.codes.begin(), entries.codes.end());
    }
};

Answer content_of(const Index& index) {
    Answer content;
    content.join(index.export_entries());
    content.numbers.push_back(static_cast<std::int64_t>(index.next_id()));
    content.numbers.push_back(static_cast<std::int64_t>(index.size()));
    return content;
}

Answer content_of(const PlainIndex& plain) {
    Answer content;
    for (const auto& entry : plain.codes()) {
        content.numbers.push_back(entry.first);
        content.bytes.insert(content.bytes.end(), entry.second.begin(), entry.second.end());
    }
    content.numbers.push_back(static_cast<std::int64_t>(plain.next_id()));
    content.numbers.push_back(static_cast<std::int64_t>(plain.size()));
    return content;
}

std::vector<std::int64_t> numbers(std::int64_t first, std::size_t n, std::int64_t step = 1) {
    std::vector<std::int64_t> all(n);
    for (std::size_t i = 0; i < n; ++i) all[i] = first + static_cast<std::int64_t>(i) * step;
    return all;
}

/// One call, or a few that belong together.
struct Step {
    std::string name;
    std::function<Answer(Index&)> run;
    std::function<void(PlainIndex&)> change;              // null for what only reads
    std::function<Answer(const PlainIndex&)> expected{};  // null where only equal sessions are compared
    bool saves = false;                                   // a file that those which load need
    bool loads = false;
};

/// The steps of a session, and the expected result of each, from an index of plain loops.
class Session {
 public:
    explicit Session(std::unique_ptr<Index> empty)
        : empty_(std::move(empty)), is_hier_(empty_->kind() == IndexKind::hier) {
        std::mt19937 generator(1);
        codes_ = random_codes(800 * kWidth, generator);
        queries_ = random_codes(3 * kWidth, generator);
        filters_.push_back(nullptr);
        for (const auto& ids : {numbers(0, 20), numbers(100, 200), numbers(290, 3), std::vector<std::int64_t>()}) {
            filters_.push_back(std::make_unique<IdFilter>(ids));
        }
        other_ = empty_->copy();
        const std::vector<std::int64_t> others = numbers(-100, 30);
        other_->add(codes(600, 30), others.data());
        make_steps(others);
        run_plain();
    }

    std::size_t n_steps() const { return steps_.size(); }

    /// Runs the changes before a step, then the step while the n-th allocation fails, and all after it if `all`. False
    /// if the step has fewer allocations. `warm`: the caches that the step needs are there.
    bool attempt(std::size_t s, long n, bool all, bool warm) const {
        std::remove(path.c_str());
        const long n_before = n_live;
        {
            const std::unique_ptr<Index> index = empty_->copy();
            for (std::size_t before = 0; before < s; ++before) {
                if (steps_[before].change || (steps_[before].saves && steps_[s].loads)) steps_[before].run(*index);
            }
            if (warm) warm_up(steps_[s], *index);
            all_after = all;
            refused = false;
            n_allocations = 0;
            n_until_refusal = n;
            run(s, *index);
            n_until_refusal = LONG_MAX;
            if (n == LONG_MAX) n_allocations_of_step_ = n_allocations;
            if (!refused && n < LONG_MAX) return false;
            check(content_of(*index) == contents_[s + 1], steps_[s].name.c_str());
            check(search(*index, queries(), 7) == nearest_[s + 1], steps_[s].name.c_str());
        }
        const long n_lost = n_live - n_before;
        if (n_lost != 0) fail(steps_[s].name + ": lost blocks of memory: " + std::to_string(n_lost));
        return true;
    }

    long n_allocations_of_step() const { return n_allocations_of_step_; }  // of the last attempt with none refused
    std::size_t n_failures() const { return n_failures_; }

 private:
    CodeView codes(std::size_t first, std::size_t n) const { return {codes_.data() + first * kWidth, n, kWidth}; }
    CodeView queries() const { return view(queries_, kWidth); }

    void warm_up(const Step& step, Index& index) const {
        if (!step.change) {
            step.run(index);
        } else {
            index.contains(3);
            search(index, queries(), 3);
        }
    }

    // What fails is repeated with memory.
    void run(std::size_t s, Index& index) const {
        const Step& step = steps_[s];
        Answer answer;
        try {
            answer = step.run(index);
        } catch (const std::bad_alloc&) {
            n_until_refusal = LONG_MAX;
            check(refused, step.name + ": no memory without a cause");
            ++n_failures_;
            check(content_of(index) == contents_[s], step.name + ": failed, so nothing has changed");
            check(search(index, queries(), 7) == nearest_[s], step.name + ": failed, search");
            check_files(step.name);
            answer = step.run(index);
        } catch (const std::exception& error) {
            fail(step.name + ": another error than std::bad_alloc: " + error.what());
        }
        if (!step.change && !(answer == answers_[s])) fail(step.name + ": the answer");  // no text while memory is out
    }

    void check_files(const std::string& what) const {
        const std::size_t n_folder = path.find_last_of('/');
        const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(path.substr(0, n_folder).c_str()), &closedir);
        while (const dirent* entry = readdir(open.get())) {
            const std::string name = entry->d_name;
            check(name == "." || name == ".." || name == path.substr(n_folder + 1), what + ": left is " + name);
        }
    }

    // What each step finds and leaves, by plain loops; their answers are those of a session in which nothing fails.
    void run_plain() {
        PlainIndex plain(kWidth);
        const std::unique_ptr<Index> index = empty_->copy();
        for (const Step& step : steps_) {
            contents_.push_back(content_of(plain));
            nearest_.push_back(nearest(plain, 7, nullptr));
            answers_.push_back(step.run(*index));
            if (step.change) step.change(plain);
            if (step.expected) check(answers_.back() == step.expected(plain), step.name + ": by plain loops");
            check(content_of(*index) == content_of(plain), step.name + ": the content");
        }
        contents_.push_back(content_of(plain));
        nearest_.push_back(nearest(plain, 7, nullptr));
        Expected(plain, queries()).check_all(*index, "the session");
    }

    void join_change(const std::string& name, const std::function<void(Index&)>& run,
                     const std::function<void(PlainIndex&)>& change) {
        steps_.push_back({name, [run](Index& index) { return run(index), Answer(); }, change});
    }
    void join_add(std::size_t first, std::size_t n) {
        join_change(
            "add " + std::to_string(n), [=](Index& index) { index.add(codes(first, n), nullptr); },
            [=](PlainIndex& plain) { plain.add(codes(first, n)); });
    }
    void join_add(std::size_t first, const std::vector<std::int64_t>& ids) {
        join_change(
            "add " + std::to_string(ids.size()) + " with ids",
            [=](Index& index) { index.add(codes(first, ids.size()), ids.data()); },
            [=](PlainIndex& plain) { plain.add(codes(first, ids.size()), ids.data()); });
    }
    void join_remove(const std::vector<std::int64_t>& ids) {
        join_change(
            "remove " + std::to_string(ids.size()), [=](Index& index) { index.remove(ids.data(), ids.size()); },
            [=](PlainIndex& plain) { plain.remove(ids); });
    }
    void join_update(std::size_t first, const std::vector<std::int64_t>& ids) {
        join_change(
            "update " + std::to_string(ids.size()),
            [=](Index& index) { index.update(ids.data(), codes(first, ids.size())); },
            [=](PlainIndex& plain) { plain.update(ids, codes(first, ids.size())); });
    }
    void join_read(const std::string& name, const std::function<Answer(const Index&)>& read,
                   const std::function<Answer(const PlainIndex&)>& expected = nullptr) {
        steps_.push_back({name, read, nullptr, expected});
    }

    void make_steps(const std::vector<std::int64_t>& others) {
        join_add(0, 360);
        join_search(0, false);
        join_read("contains", [](const Index& index) { return Answer{{index.contains(70), index.contains(-3)}, {}}; });
        join_add(360, numbers(5000, 5, 3));
        join_add(365, 3);
        join_add(368, std::vector<std::int64_t>{4000, 3000, -8, 3500});
        join_remove(numbers(30, 5));
        join_update(400, numbers(50, 4));
        join_searches();
        join_read("stats", [](const Index& index) {
            return Answer{{index.nbytes() > 0, static_cast<std::int64_t>(index.n_segments()),
                           static_cast<std::int64_t>(index.n_removed())},
                          {}};
        });
        join_files();
        join_copy();
        join_add(380, 60);
        join_remove(numbers(35, 130));
        join_update(420, numbers(200, 70));
        join_change(
            "merge", [this](Index& index) { index.merge(*other_); },
            [=](PlainIndex& plain) { plain.add(codes(600, others.size()), others.data()); });
        join_search(1, true);
        if (is_hier_) join_pruned();
        join_add(700, 2);
        join_change("compact", [](Index& index) { index.compact(); }, [](PlainIndex&) {});
        join_search(0, false);
        join_search(1, true);
    }

    void join_search(std::size_t f, bool reusable) {
        const IdFilter* given = filters_[f].get();
        join_read(
            "search, filter " + std::to_string(f),
            [=](const Index& index) {
                std::unique_ptr<IdFilter> filter;
                if (given != nullptr) filter = std::make_unique<IdFilter>(given->ids());
                if (reusable) filter->set_reusable();
                Answer answer;
                for (const std::size_t k : {10, 1, 600}) answer.join(search(index, queries(), k, filter.get()));
                return answer;
            },
            [=](const PlainIndex& plain) {
                Answer answer;
                for (const std::size_t k : {10, 1, 600}) answer.join(nearest(plain, k, given));
                return answer;
            });
    }

    void join_searches() {
        for (std::size_t f = 0; f < filters_.size(); ++f) {
            join_search(f, false);
            if (f > 0) join_search(f, true);
            join_read(
                "within a radius, filter " + std::to_string(f),
                [=](const Index& index) {
                    const RangeResult found = index.range_search(queries(), 13, filters_[f].get(), nullptr);
                    std::vector<std::int64_t> counts(3);
                    index.count_within(queries(), 13, filters_[f].get(), counts.data());
                    Answer answer;
                    answer.join(found.distances);
                    answer.join(found.ids);
                    answer.join(counts);
                    return answer;
                },
                [=](const PlainIndex& plain) { return within(plain, 13, filters_[f].get()); });
        }
        join_read("a filter from a mask", [](const Index&) {
            const std::uint8_t mask[] = {1, 0, 1};
            Answer answer;
            answer.join(IdFilter::from_mask(mask, 3)->ids());
            return answer;
        });
    }

    void join_pruned() {
        join_read(
            "pruned search",
            [this](const Index& index) {
                Answer answer;
                answer.join(search(index, queries(), 10, nullptr, Pruning{1.0}));
                answer.join(search(index, queries(), 10, filters_[1].get(), Pruning{1.0}));
                return answer;
            },
            [this](const PlainIndex& plain) {
                Answer answer;
                answer.join(nearest(plain, 10, nullptr));
                answer.join(nearest(plain, 10, filters_[1].get()));
                return answer;
            });
        join_read("pruned search of few", [this](const Index& index) {
            Answer answer;
            answer.join(search(index, queries(), 10, nullptr, Pruning{0.1}));
            return answer;
        });
    }

    void join_copy() {
        join_read("copy", [this](const Index& index) {
            const std::unique_ptr<Index> same = index.copy();
            const std::vector<std::int64_t> gone = numbers(300, 15);
            same->remove(gone.data(), gone.size());
            same->add(codes(720, 30), nullptr);
            return content_of(*same);
        });
        join_read("reconstruct", [](const Index& index) {
            const std::int64_t ids[] = {5, 70, 5, -8};
            Answer answer;
            answer.bytes.resize(4 * kWidth);
            index.reconstruct(ids, 4, answer.bytes.data());
            return answer;
        });
    }

    void join_files() {
        join_read("bytes", [this](const Index& index) {
            const std::vector<std::uint8_t> bytes = index.to_bytes();
            const std::unique_ptr<Index> same = index_from_bytes(bytes.data(), bytes.size());
            Answer answer = content_of(*same);
            answer.join(search(*same, queries(), 10));
            answer.bytes.insert(answer.bytes.end(), bytes.begin(), bytes.end());
            return answer;
        });
        join_read("save", [](const Index& index) {
            index.save(path);
            return Answer{{static_cast<std::int64_t>(peek_file(path).n_codes)}, {}};
        });
        steps_.back().saves = true;
        for (const bool mapped : {false, true}) {
            join_read("load", [=](const Index&) {
                const std::unique_ptr<Index> same = load_index(path, mapped);
                Answer answer = content_of(*same);
                answer.join(search(*same, queries(), 10));
                same->add(codes(740, 50), nullptr);
                const std::vector<std::int64_t> gone = numbers(300, 15);
                same->remove(gone.data(), gone.size());
                answer.join(search(*same, queries(), 10));
                return answer;
            });
        }
        join_read("verify", [](const Index&) { return Answer{{verify_file(path).fault.empty()}, {}}; });
        for (std::size_t s = steps_.size() - 3; s < steps_.size(); ++s) steps_[s].loads = true;
    }

    Found nearest(const PlainIndex& plain, std::size_t k, const IdFilter* filter) const {
        Found all;
        for (std::size_t q = 0; q < 3; ++q) {
            const Found first = first_of(plain.ranking(queries_.data() + q * kWidth, filter), k, kWidth);
            all.distances.insert(all.distances.end(), first.distances.begin(), first.distances.end());
            all.ids.insert(all.ids.end(), first.ids.begin(), first.ids.end());
        }
        return all;
    }
    Answer within(const PlainIndex& plain, std::int32_t radius, const IdFilter* filter) const {
        Found all;
        Answer counts;
        for (std::size_t q = 0; q < 3; ++q) {
            const Found ranking = plain.ranking(queries_.data() + q * kWidth, filter);
            std::size_t n = 0;
            for (; n < ranking.ids.size() && ranking.distances[n] <= radius; ++n) {
                all.distances.push_back(ranking.distances[n]);
                all.ids.push_back(ranking.ids[n]);
            }
            counts.numbers.push_back(static_cast<std::int64_t>(n));
        }
        Answer answer;
        answer.join(all);
        answer.join(counts.numbers);
        return answer;
    }

    std::unique_ptr<Index> empty_, other_;
    bool is_hier_;
    std::vector<std::uint8_t> codes_, queries_;
    std::vector<std::unique_ptr<IdFilter>> filters_;
    std::vector<Step> steps_;
    std::vector<Answer> contents_, answers_;  // before each step and at the end; of each step
    std::vector<Found> nearest_;              // the same
    mutable std::size_t n_failures_ = 0;
    mutable long n_allocations_of_step_ = 0;
};

}  // namespace
}  // namespace fasthash::testing
