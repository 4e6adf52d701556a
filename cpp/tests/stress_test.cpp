// Stress test: eight threads search an index while one changes it. `stress_test SECONDS` runs that long for each kind.
//
// Codes are added and removed in batches. The writer records each version of the index, before it begins the change and
// after the change is done. The result of a search must belong to one version: not older than the last change done when
// the search began, not newer than the last one begun when it returned, and not older than the version that the reader
// saw last. So each change is visible completely or not at all, at once and for good. Meanwhile the process forks, and
// its children search and change their copies.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "fasthash/topk.h"
#include "testing.h"

// Sanitizers do not support forking while other threads hold their locks.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define FASTHASH_NO_FORK
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define FASTHASH_NO_FORK
#endif
#endif

namespace fasthash::testing {

const char* const kTestName = "stress_test";

namespace {

constexpr std::size_t kWidth = 16, kBits = kWidth * 8;
constexpr std::size_t kReaders = 8, kQueries = 16;
constexpr std::size_t kStatic = 2048, kBatches = 32, kEntries = 8;  // codes that stay; batches, and codes of each
constexpr std::int64_t kFirstId = 10000, kLastId = 99999;           // of the batches; the largest of all, which stays
constexpr std::size_t kMostVersions = std::size_t{1} << 20;
constexpr std::uint8_t kGenerations = 60;  // codes that a batch has in turn
constexpr std::size_t kMostRadius = 40;    // half of all codes are nearer than 16
constexpr unsigned kChildSeconds = 60;     // that a child may take for a few milliseconds of work

std::int64_t id_of(std::size_t batch, std::size_t entry) {
    return kFirstId + static_cast<std::int64_t>(batch * kEntries + entry);
}

/// The generation of codes that each batch has; 0: the batch is not in the index.
using Content = std::array<std::uint8_t, kBatches>;

std::size_t size_of(const Content& content) {
    return kStatic + kEntries * static_cast<std::size_t>(std::count_if(content.begin(), content.end(),
                                                                       [](std::uint8_t g) { return g != 0; }));
}

/// All codes of the test, and their distances to all queries.
struct World {
    std::vector<std::uint8_t> queries, fixed;
    std::vector<std::int64_t> fixed_ids;
    std::vector<std::uint8_t> of_batches[kGenerations + 1];
    std::vector<std::pair<std::int32_t, std::int64_t>> fixed_ranking[kQueries];
    std::vector<std::int32_t> distances[kQueries][kGenerations + 1];

    World() {
        std::mt19937 generator(1);
        queries = random_codes(kQueries * kWidth, generator);
        fixed = random_codes(kStatic * kWidth, generator);
        for (std::size_t i = 0; i + 1 < kStatic; ++i) fixed_ids.push_back(static_cast<std::int64_t>(2 * i));
        std::shuffle(fixed_ids.begin(), fixed_ids.end(), generator);
        fixed_ids.push_back(kLastId);
        for (auto& codes : of_batches) codes = random_codes(kBatches * kEntries * kWidth, generator);
        for (std::size_t q = 0; q < kQueries; ++q) {
            for (std::size_t i = 0; i < kStatic; ++i) {
                fixed_ranking[q].emplace_back(hamming(query(q), &fixed[i * kWidth], kWidth), fixed_ids[i]);
            }
            std::sort(fixed_ranking[q].begin(), fixed_ranking[q].end());
            for (std::size_t g = 0; g <= kGenerations; ++g) {
                for (std::size_t i = 0; i < kBatches * kEntries; ++i) {
                    distances[q][g].push_back(hamming(query(q), &of_batches[g][i * kWidth], kWidth));
                }
            }
        }
    }

    const std::uint8_t* query(std::size_t q) const { return &queries[q * kWidth]; }
    const std::uint8_t* code(std::size_t batch, std::size_t entry, std::uint8_t generation) const {
        return &of_batches[generation][(batch * kEntries + entry) * kWidth];
    }

    /// The first `limit` of all codes within a radius, or of those that a filter allows, by (distance, id).
    Found nearest(const Content& content, std::size_t q, const IdFilter* filter, std::size_t limit,
                  std::int32_t radius = kBits) const {
        const auto& of_fixed = fixed_ranking[q];
        // Without a filter, so many of the codes that stay are there: none farther is wanted.
        if (filter == nullptr && limit <= kStatic) radius = std::min(radius, of_fixed[limit - 1].first);
        std::vector<std::pair<std::int32_t, std::int64_t>> hits;
        for (std::size_t b = 0; b < kBatches; ++b) {
            const std::int32_t* of_batch = &distances[q][content[b]][b * kEntries];
            for (std::size_t i = 0; i < kEntries && content[b] != 0; ++i) {
                if (of_batch[i] > radius || (filter != nullptr && !filter->contains(id_of(b, i)))) continue;
                hits.emplace_back(of_batch[i], id_of(b, i));
            }
        }
        std::sort(hits.begin(), hits.end());
        Found found;
        auto a = of_fixed.begin();
        auto b = hits.begin();
        while (found.ids.size() < limit) {
            const bool from_fixed = a != of_fixed.end() && (b == hits.end() || *a < *b);
            if (!from_fixed && b == hits.end()) break;
            const auto& [distance, id] = from_fixed ? *a++ : *b++;
            if (distance > radius) break;
            if (from_fixed && filter != nullptr && !filter->contains(id)) continue;
            found.distances.push_back(distance);
            found.ids.push_back(id);
        }
        return found;
    }
    /// As a search returns it.
    Found search(const Content& content, std::size_t q, const IdFilter* filter, std::size_t k) const {
        return first_of(nearest(content, q, filter, k), k, kWidth);
    }
};

/// All versions of the index so far. Written by one thread.
class History {
 public:
    History() : versions_(new Content[kMostVersions]) { versions_[0] = {}; }

    void begin(const Content& content) {
        const std::size_t version = begun_ + 1;
        versions_[version] = content;
        begun_ = version;
    }
    void end() { done_ = begun_.load(); }
    void note_saved() { saved_ = done_.load(); }

    std::size_t begun() const { return begun_; }
    std::size_t done() const { return done_; }
    std::size_t saved() const { return saved_; }
    bool full() const { return begun_ + 2 >= kMostVersions; }
    const Content& operator[](std::size_t version) const { return versions_[version]; }

 private:
    const std::unique_ptr<Content[]> versions_;
    std::atomic<std::size_t> begun_{0}, done_{0}, saved_{0};
};

struct Filters {
    std::unique_ptr<IdFilter> narrow, wide;

    Filters() {
        std::vector<std::int64_t> few{-5, kLastId, kLastId + 1}, most;
        for (std::size_t i = 0; i < 3 * kEntries; ++i) few.push_back(id_of(3 + i % 3, i / 3));
        for (std::int64_t id = 0; id < 40; ++id) few.push_back(id * 17);
        for (std::int64_t id = 0; id < kFirstId + 300; ++id) {
            if (id % 5 != 0) most.push_back(id);
        }
        narrow = std::make_unique<IdFilter>(few);
        narrow->set_reusable();
        wide = std::make_unique<IdFilter>(most);
        wide->set_reusable();
    }
};

/// State shared by the threads.
struct Scene {
    const World& world;
    const Filters& filters;
    Index& index;
    std::string path;
    History history{};
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> n_searches{0}, n_changes{0};
};

/// Searches an index and compares the results with the versions that they may belong to.
class Reader {
 public:
    Reader(Scene& scene, unsigned seed) : scene_(scene), world_(scene.world), generator_(seed) {}

    void run() {
        while (!scene_.stop) {
            read_once();
            ++scene_.n_searches;
        }
    }
    /// In a child, where nothing changes any more.
    void run_as_child() {
        is_child_ = true;
        for (int i = 0; i < 12; ++i) read_once();
        change_it(scene_.index, version_of(scene_.index));
    }

 private:
    std::size_t any(std::size_t n) { return generator_() % n; }

    // Expects one of the versions since `first` for which `holds`.
    template <typename Holds>
    void expect(std::size_t first, const char* what, Holds holds) {
        const std::size_t last = scene_.history.begun();
        for (std::size_t version = std::max(first, seen_); version <= last; ++version) {
            if (!holds(scene_.history[version])) continue;
            seen_ = version;
            return;
        }
        fail(std::string(what) + " is not that of a version from " + std::to_string(std::max(first, seen_)) + " to " +
             std::to_string(last));
    }

    void read_once() {
        const std::size_t first = scene_.history.done();
        const Index& index = scene_.index;
        switch (any(16)) {
            case 0:
            case 1:
                return search_all(index, first, "a search for everything");
            case 2:
            case 3:
            case 4:
                return search_some(index, first, any(8) == 0 ? 40 : 1 + any(3), nullptr);
            case 5:
                return search_some(index, first, any(8) == 0 ? 40 : 1 + any(3), scene_.filters.narrow.get());
            case 6:
                return search_some(index, first, 1 + any(3), scene_.filters.wide.get());
            case 7: {
                const IdFilter once(
                    {id_of(any(kBatches), 0), id_of(any(kBatches), 1), id_of(any(kBatches), 2), 5, 6, 7});
                return search_some(index, first, 2, &once);
            }
            case 8:
                return within(index, first, nullptr);
            case 9:
                return within(index, first, scene_.filters.narrow.get());
            case 10:
                return count(index, first);
            case 11:
                return contains(index, first);
            case 12:
                return reconstruct(index, first);
            case 13:
                return sizes(index, first);
            case 14:
                return copy(index, first);
            default:
                return now_and_then(index, first);
        }
    }

    void search_all(const Index& index, std::size_t first, const char* what) {
        const std::size_t q = any(kQueries), k = kStatic + kBatches * kEntries + 1;
        const Found found = search(index, {world_.query(q), 1, kWidth}, k);
        expect(first, what, [&](const Content& content) {
            return found.ids[size_of(content) - 1] != -1 && found.ids[size_of(content)] == -1 &&
                   found == world_.search(content, q, nullptr, k);
        });
    }

    // All queries of one search are answered of the same version.
    void search_some(const Index& index, std::size_t first, std::size_t n, const IdFilter* filter,
                     std::optional<Pruning> pruning = std::nullopt) {
        const std::size_t k = 1 + any(20), from = any(kQueries);
        std::vector<std::uint8_t> queries(n * kWidth);
        for (std::size_t i = 0; i < n; ++i) {
            std::memcpy(&queries[i * kWidth], world_.query((from + i) % kQueries), kWidth);
        }
        const Found found = search(index, view(queries, kWidth), k, filter, pruning);
        expect(first, filter == nullptr ? "a search" : "a search with a filter", [&](const Content& content) {
            for (std::size_t i = 0; i < n; ++i) {
                const Found expected = world_.search(content, (from + i) % kQueries, filter, k);
                if (std::memcmp(expected.ids.data(), &found.ids[i * k], k * sizeof(std::int64_t)) != 0 ||
                    std::memcmp(expected.distances.data(), &found.distances[i * k], k * sizeof(std::int32_t)) != 0) {
                    return false;
                }
            }
            return true;
        });
    }

    void within(const Index& index, std::size_t first, const IdFilter* filter) {
        const std::size_t q = any(kQueries - 1);
        const auto radius = static_cast<std::int32_t>(any(kMostRadius));
        const RangeResult found = index.range_search({world_.query(q), 2, kWidth}, radius, filter, nullptr);
        expect(first, "a search by radius", [&](const Content& content) {
            for (std::size_t i = 0; i < 2; ++i) {
                const Found expected = world_.nearest(content, q + i, filter, kAll, radius);
                const Found of_query{
                    {found.distances.begin() + found.offsets[i], found.distances.begin() + found.offsets[i + 1]},
                    {found.ids.begin() + found.offsets[i], found.ids.begin() + found.offsets[i + 1]}};
                if (of_query != expected) return false;
            }
            return true;
        });
    }

    void count(const Index& index, std::size_t first) {
        const std::size_t q = any(kQueries - 2);
        const auto radius = static_cast<std::int32_t>(any(kMostRadius));
        const IdFilter* filter = any(2) == 0 ? nullptr : scene_.filters.wide.get();
        std::int64_t counts[3];
        index.count_within({world_.query(q), 3, kWidth}, radius, filter, counts);
        expect(first, "a number within a radius", [&](const Content& content) {
            for (std::size_t i = 0; i < 3; ++i) {
                const std::size_t n = world_.nearest(content, q + i, filter, kAll, radius).ids.size();
                if (counts[i] != static_cast<std::int64_t>(n)) return false;
            }
            return true;
        });
    }

    void contains(const Index& index, std::size_t first) {
        const std::size_t batch = any(kBatches);
        const bool found = index.contains(id_of(batch, any(kEntries)));
        expect(first, "contains", [&](const Content& content) { return found == (content[batch] != 0); });
        check(index.contains(kLastId) && !index.contains(kLastId + 1), "contains what stays");
    }

    // The codes of two batches: both whole, of one version; an error if one of them was not there.
    void reconstruct(const Index& index, std::size_t first) {
        const std::size_t batches[] = {any(kBatches), any(kBatches)};
        std::vector<std::int64_t> ids;
        for (const std::size_t batch : batches) {
            for (std::size_t i = 0; i < kEntries; ++i) ids.push_back(id_of(batch, i));
        }
        std::vector<std::uint8_t> codes(ids.size() * kWidth);
        bool found = true;
        try {
            index.reconstruct(ids.data(), ids.size(), codes.data());
        } catch (const ArgumentError&) {
            found = false;
        }
        expect(first, "reconstruct", [&](const Content& content) {
            const bool there = content[batches[0]] != 0 && content[batches[1]] != 0;
            if (!found || !there) return found == there;
            for (std::size_t i = 0; i < 2; ++i) {
                const std::uint8_t* code = world_.code(batches[i], 0, content[batches[i]]);
                if (std::memcmp(&codes[i * kEntries * kWidth], code, kEntries * kWidth) != 0) return false;
            }
            return true;
        });
    }

    void sizes(const Index& index, std::size_t first) {
        const std::size_t size = index.size();
        expect(first, "size", [&](const Content& content) { return size == size_of(content); });
        check(index.nbytes() > kStatic * kWidth / 2 && index.nbytes() < 100 * kStatic * kWidth, "bytes of memory");
        check(index.n_segments() >= 1 && index.n_segments() < 10 && index.n_removed() < 2 * kStatic, "segments");
        check(index.next_id() == static_cast<std::uint64_t>(kLastId) + 1, "next id");
    }

    void copy(const Index& index, std::size_t first) {
        const auto same = index.copy();
        search_all(*same, first, "a copy");
        const std::size_t version = version_of(*same);
        if (any(4) == 0) change_it(*same, version);
    }

    // What takes longer.
    void now_and_then(const Index& index, std::size_t first) {
        switch (any(8)) {
            case 0: {
                const std::vector<std::uint8_t> bytes = index.to_bytes();
                return search_all(*index_from_bytes(bytes.data(), bytes.size()), first, "what to_bytes tells");
            }
            case 1: {
                // It may be older than the version seen last, or newer than a child knows.
                if (is_child_) return;
                const std::size_t saved = scene_.history.saved(), seen = std::exchange(seen_, 0);
                if (saved > 0) search_all(*load_index(scene_.path, any(2) == 0), saved, "a file");
                seen_ = seen;
                return;
            }
            case 2:
            case 3:
                // Puts all codes into one segment first.
                if (index.kind() == IndexKind::hier) search_some(index, first, 1 + any(20), nullptr, Pruning{1.0});
                return;
            case 4:
                if (index.kind() == IndexKind::hier) {
                    search_some(index, first, 3, scene_.filters.narrow.get(), Pruning{1.0, KeepMode::gallery_ratio});
                }
                return;
            default: {
                const Export entries = index.export_entries();
                expect(first, "all entries", [&](const Content& content) {
                    if (entries.ids.size() != size_of(content)) return false;
                    const auto begin = std::lower_bound(entries.ids.begin(), entries.ids.end(), kFirstId);
                    auto row = static_cast<std::size_t>(begin - entries.ids.begin());
                    for (std::size_t b = 0; b < kBatches; ++b) {
                        if (content[b] == 0) continue;
                        if (entries.ids[row] != id_of(b, 0) ||
                            std::memcmp(&entries.codes[row * kWidth], world_.code(b, 0, content[b]),
                                        kEntries * kWidth) != 0) {
                            return false;
                        }
                        row += kEntries;
                    }
                    return entries.ids[row] == kLastId;
                });
            }
        }
    }

    // Of an index that nobody changes: its version, or an earlier one of the same content.
    std::size_t version_of(const Index& index) {
        const std::size_t k = kStatic + kBatches * kEntries;
        const Found found = search(index, {world_.query(0), 1, kWidth}, k);
        for (std::size_t version = seen_; version <= scene_.history.begun(); ++version) {
            if (found == world_.search(scene_.history[version], 0, nullptr, k)) return version;
        }
        fail("an index that nobody changes is of no version");
    }

    // An index that is this thread's alone, while others read and change what it shares with it.
    void change_it(Index& index, std::size_t version) {
        const Content& content = scene_.history[version];
        PlainIndex plain(kWidth);
        plain.add({world_.fixed.data(), kStatic, kWidth}, world_.fixed_ids.data());
        for (std::size_t b = 0; b < kBatches; ++b) {
            const std::int64_t first = id_of(b, 0);
            std::vector<std::int64_t> ids;
            for (std::int64_t id = first; id < first + static_cast<std::int64_t>(kEntries); ++id) ids.push_back(id);
            if (content[b] != 0) plain.add({world_.code(b, 0, content[b]), kEntries, kWidth}, ids.data());
            if (any(8) > 0) continue;
            if (content[b] == 0) {
                index.add({world_.code(b, 0, 0), kEntries, kWidth}, ids.data());
                plain.add({world_.code(b, 0, 0), kEntries, kWidth}, ids.data());
            } else {
                index.remove(ids.data(), kEntries);
                plain.remove(ids);
            }
        }
        std::int64_t gone[kStatic / 4];
        std::copy(world_.fixed_ids.begin(), world_.fixed_ids.begin() + kStatic / 4, gone);
        index.remove(gone, kStatic / 4);
        plain.remove({gone, gone + kStatic / 4});
        if (any(2) == 0) index.compact();
        const std::size_t q = any(kQueries);
        const IdFilter* filter = any(2) == 0 ? nullptr : scene_.filters.narrow.get();
        check(search(index, {world_.query(q), 1, kWidth}, 50, filter) ==
                  first_of(plain.ranking(world_.query(q), filter), 50, kWidth),
              "an index of its own that has changed");
        check(index.size() == plain.size(), "size of an index of its own");
    }

    Scene& scene_;
    const World& world_;
    std::mt19937 generator_;
    bool is_child_ = false;
    std::size_t seen_ = 0;  // the latest version that an answer proved
};

/// Changes the index and records its versions.
class Writer {
 public:
    explicit Writer(Scene& scene) : scene_(scene), world_(scene.world), index_(scene.index) {}

    void run() {
        for (std::size_t round = 0; !scene_.stop && !scene_.history.full(); ++round) {
            switch (generator_() % 16) {
                case 0:
                case 1:
                case 2:
                case 3:
                case 4:
                    add(false);
                    break;
                case 5:
                case 6:
                case 7:
                case 8:
                    remove();
                    break;
                case 9:
                case 10:
                case 11:
                case 12:
                    update();
                    break;
                case 13:
                    add(true);
                    break;
                case 14:
                    refused();
                    break;
                default:
                    if (generator_() % 4 == 0) index_.compact();
            }
            if (round % 256 == 0) save();
        }
    }

 private:
    struct Batches {
        std::vector<std::int64_t> ids;
        std::vector<std::uint8_t> codes;
    };

    // Some batches that are there, or are not; with the codes that they shall have in `next_`.
    Batches choose(bool there) {
        next_ = content_;
        Batches chosen;
        for (std::size_t n = 1 + generator_() % 3; n > 0; --n) {
            const std::size_t b = generator_() % kBatches;
            if ((content_[b] != 0) != there || next_[b] != content_[b]) continue;
            generation_[b] = static_cast<std::uint8_t>(generation_[b] % kGenerations + 1);
            next_[b] = generation_[b];
            const std::uint8_t* codes = world_.code(b, 0, next_[b]);
            chosen.codes.insert(chosen.codes.end(), codes, codes + kEntries * kWidth);
            for (std::size_t i = 0; i < kEntries; ++i) chosen.ids.push_back(id_of(b, i));
        }
        return chosen;
    }
    template <typename Change>
    void publish(Change change) {
        scene_.history.begin(next_);
        change();
        content_ = next_;
        scene_.history.end();
        ++scene_.n_changes;
    }

    void add(bool by_merging) {
        const Batches chosen = choose(false);
        if (by_merging) {
            FlatIndex flat(kBits);
            HierIndex hier(index_.layout());
            Index& other = index_.kind() == IndexKind::flat ? static_cast<Index&>(flat) : hier;
            other.add(view(chosen.codes, kWidth), chosen.ids.data());
            publish([&] { index_.merge(other); });
        } else {
            publish([&] { index_.add(view(chosen.codes, kWidth), chosen.ids.data()); });
        }
    }
    void remove() {
        const Batches chosen = choose(true);
        for (const std::int64_t id : chosen.ids) next_[static_cast<std::size_t>(id - kFirstId) / kEntries] = 0;
        publish([&] { index_.remove(chosen.ids.data(), chosen.ids.size()); });
    }
    void update() {
        const Batches chosen = choose(true);
        publish([&] { index_.update(chosen.ids.data(), view(chosen.codes, kWidth)); });
    }
    void refused() {
        Batches chosen = choose(true);
        chosen.ids.push_back(kLastId + 1);
        chosen.codes.resize(chosen.codes.size() + kWidth);
        if (chosen.ids.size() > 1) {
            check_throws<ArgumentError>([&] { index_.add(view(chosen.codes, kWidth), chosen.ids.data()); }, "already");
        }
        check_throws<ArgumentError>([&] { index_.remove(chosen.ids.data(), chosen.ids.size()); }, "does not hold");
        check_throws<ArgumentError>([&] { index_.update(chosen.ids.data(), view(chosen.codes, kWidth)); }, "not hold");
    }
    void save() {
        index_.save(scene_.path);
        scene_.history.note_saved();
        const std::size_t k = size_of(content_);
        check(
            search(*load_index(scene_.path), {world_.query(0), 1, kWidth}, k) == world_.search(content_, 0, nullptr, k),
            "what was saved");
    }

    Scene& scene_;
    const World& world_;
    Index& index_;
    std::mt19937 generator_{99};
    Content content_{}, next_{}, generation_{};
};

#ifndef FASTHASH_NO_FORK
// A child finds some version, searches and changes it, and ends.
void fork_once(Scene& scene, unsigned seed) {
    const pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        alarm(kChildSeconds);
        Reader(scene, seed).run_as_child();
        _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) check(errno == EINTR, "waitpid");
    check(!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM, "a child waits for ever");
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child failed");
}
#endif

void run(const char* name, Index& index, const World& world, const Filters& filters, double seconds) {
    Scene scene{world, filters, index, "stress_test-" + std::to_string(getpid()) + ".fh"};
    index.add({world.fixed.data(), kStatic, kWidth}, world.fixed_ids.data());
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    std::vector<std::thread> threads;
    threads.emplace_back([&scene] { Writer(scene).run(); });
    for (unsigned i = 0; i < kReaders; ++i) threads.emplace_back([&scene, i] { Reader(scene, i).run(); });
    std::size_t n_forks = 0;
    while (std::chrono::steady_clock::now() < end) {
#ifndef FASTHASH_NO_FORK
        fork_once(scene, 1000 + static_cast<unsigned>(n_forks++));
#endif
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    scene.stop = true;
    for (std::thread& thread : threads) thread.join();
    std::remove(scene.path.c_str());
    check(scene.n_searches > 0 && scene.n_changes > 0, "something was done");
    std::printf("stress_test: %s: %llu searches, %llu changes, %zu forks\n", name,
                static_cast<unsigned long long>(scene.n_searches), static_cast<unsigned long long>(scene.n_changes),
                n_forks);
    std::fflush(stdout);
}

}  // namespace
}  // namespace fasthash::testing

int main(int argc, char** argv) {
    using namespace fasthash;
    using namespace fasthash::testing;
    const double seconds = argc > 1 ? std::atof(argv[1]) : 3;
    check(argc <= 2 && seconds > 0, "usage: stress_test SECONDS");
    set_num_threads(4);
    const auto world = std::make_unique<World>();
    const Filters filters;
    const LevelLayout layout({16, 48, 64});
    FlatIndex flat(kBits);
    run("flat", flat, *world, filters, seconds);
    HierIndex scan(layout), prefix(layout, Memory::compact, Plan::prefix),
        multi_index(layout, Memory::fast, Plan::multi_index), clusters(layout, Memory::standard, Plan::clusters);
    run("hier, scan", scan, *world, filters, seconds / 4);
    run("hier, prefix", prefix, *world, filters, seconds / 4);
    run("hier, multi-index", multi_index, *world, filters, seconds / 4);
    run("hier, clusters", clusters, *world, filters, seconds / 4);
    std::puts("stress_test: all passed");
}
