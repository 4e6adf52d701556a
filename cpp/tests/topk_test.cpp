// Tests of TopK against a sort: ties, radii, both id orders, pairs skipped by the threshold, merged selections.
#include "fasthash/topk.h"

#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "topk_test";

namespace {

using Pair = std::pair<std::int32_t, std::int64_t>;

constexpr std::size_t kBits = 40;

// Distances in a narrow range, so that most pairs are ties.
std::vector<Pair> stream(std::size_t n, std::int32_t n_distances, IdOrder order, std::mt19937& generator) {
    std::vector<Pair> pairs(n);
    for (std::size_t i = 0; i < n; ++i) {
        const auto distance = static_cast<std::int32_t>(generator() % static_cast<std::uint32_t>(n_distances));
        pairs[i] = {distance, static_cast<std::int64_t>(i) * 3 - 100};
    }
    if (order == IdOrder::any) std::shuffle(pairs.begin(), pairs.end(), generator);
    return pairs;
}

std::vector<Pair> nearest_by_sort(std::vector<Pair> pairs, Wanted wanted) {
    const auto beyond = [&](const Pair& pair) { return pair.first > wanted.radius; };
    pairs.erase(std::remove_if(pairs.begin(), pairs.end(), beyond), pairs.end());
    std::sort(pairs.begin(), pairs.end());
    if (pairs.size() > wanted.k) pairs.resize(wanted.k);
    return pairs;
}

std::vector<Pair> kept(TopK& selection) {
    const std::size_t n = selection.size();
    std::vector<std::int32_t> distances(n);
    std::vector<std::int64_t> ids(n);
    selection.write(distances.data(), ids.data());
    std::vector<Pair> pairs(n);
    for (std::size_t i = 0; i < n; ++i) pairs[i] = {distances[i], ids[i]};
    return pairs;
}

void push_all(TopK& selection, const std::vector<Pair>& pairs) {
    for (const auto& [distance, id] : pairs) {
        const std::int32_t largest = selection.largest_distance(id), before = selection.threshold();
        check(largest == before || largest == before - 1, "the largest distance is the threshold, or one less");
        check(selection.push(distance, id) == (distance <= largest), "a pair enters up to the largest distance");
        check(selection.threshold() <= before, "the threshold only falls");
        check(selection.largest_distance() >= selection.largest_distance(id), "smaller ids reach at least as far");
    }
}

// Pushes pairs as a scan does: decides at the start of a block which of its pairs to push.
void push_in_blocks(TopK& selection, const std::vector<Pair>& pairs, std::size_t n_block) {
    for (std::size_t first = 0; first < pairs.size(); first += n_block) {
        const std::size_t end = std::min(first + n_block, pairs.size());
        std::int64_t least = INT64_MAX;
        for (std::size_t i = first; i < end; ++i) least = std::min(least, pairs[i].second);
        const std::int32_t largest = selection.largest_distance(least);
        for (std::size_t i = first; i < end; ++i) {
            if (pairs[i].first <= largest) selection.push(pairs[i].first, pairs[i].second);
        }
    }
}

// Counts pairs at once, and pushes them later, as WaitingHits does.
void push_late(TopK& selection, const std::vector<Pair>& pairs, std::size_t n_waiting) {
    std::vector<Pair> waiting;
    for (std::size_t i = 0; i <= pairs.size(); ++i) {
        if (i == pairs.size() || waiting.size() == n_waiting) {
            for (const auto& [distance, id] : waiting) selection.push_expected(distance, id);
            waiting.clear();
        }
        if (i == pairs.size() || pairs[i].first > selection.largest_distance()) continue;
        selection.expect(pairs[i].first);
        waiting.push_back(pairs[i]);
    }
}

void test_selections() {
    std::mt19937 generator(1);
    for (int round = 0; round < 120; ++round) {
        const std::size_t n = generator() % 3000;
        const IdOrder order = generator() % 2 == 0 ? IdOrder::any : IdOrder::ascending;
        const auto pairs = stream(n, 1 + static_cast<std::int32_t>(generator() % kBits), order, generator);
        const bool limited = generator() % 2 == 0;
        const std::int32_t radius = limited ? static_cast<std::int32_t>(generator() % kBits) : INT32_MAX;
        const std::size_t n_within = nearest_by_sort(pairs, {kAll, radius}).size();
        for (const std::size_t k : {std::size_t{1}, std::size_t{50}, std::max<std::size_t>(n_within, 1), n + 1, kAll}) {
            const Wanted wanted{k, radius};
            const auto expected = nearest_by_sort(pairs, wanted);
            TopK selection(wanted, kBits, order);
            push_all(selection, pairs);
            check(kept(selection) == expected, "one after the other");
            TopK in_blocks(wanted, kBits, order);
            push_in_blocks(in_blocks, pairs, 1 + generator() % 200);
            check(kept(in_blocks) == expected, "in blocks");
            if (order == IdOrder::any) {
                TopK late(wanted, kBits, order);
                push_late(late, pairs, 1 + generator() % 200);
                check(kept(late) == expected, "counted before they are pushed");
            }
            if (k <= expected.size()) {  // so there are k within the distance of the last
                TopK expecting(wanted, kBits, order);
                const std::size_t n_before = generator() % n;
                push_all(expecting, {pairs.begin(), pairs.begin() + static_cast<std::ptrdiff_t>(n_before)});
                expecting.limit(expected.back().first + static_cast<std::int32_t>(generator() % 3));
                push_all(expecting, {pairs.begin() + static_cast<std::ptrdiff_t>(n_before), pairs.end()});
                check(kept(expecting) == expected, "with the threshold lowered for pairs that follow");
            }
            const auto half = pairs.begin() + static_cast<std::ptrdiff_t>(n / 2);
            TopK first(wanted, kBits, order), second(wanted, kBits, order);
            push_all(first, {pairs.begin(), half});
            push_all(second, {half, pairs.end()});
            first.push_all(second);
            check(kept(first) == expected, "joined");
            TopK counting({kAll, radius, true}, kBits, order);
            push_all(counting, pairs);
            check(counting.size() == n_within, "counted");
        }
    }
}

// Ids are distinct, except in a damaged file that was opened unchecked: then no more than k pairs come out, all of them
// pairs that were pushed.
void test_repeated_ids() {
    std::mt19937 generator(5);
    for (int trial = 0; trial < 300; ++trial) {
        const std::size_t k = 1 + generator() % 40, n = k + generator() % 400;
        TopK selection({k}, kBits);
        for (std::size_t i = 0; i < n; ++i) {
            selection.push(static_cast<std::int32_t>(generator() % 4), static_cast<std::int64_t>(generator() % 6) - 9);
        }
        const std::vector<Pair> pairs = kept(selection);
        check(pairs.size() == k, "repeated ids: number of pairs");
        check(std::is_sorted(pairs.begin(), pairs.end()), "repeated ids: order");
        for (const auto& [distance, id] : pairs) {
            check(distance >= 0 && distance < 4 && id >= -9 && id < -3, "repeated ids: only pairs that were pushed");
        }
    }
}

void test_extreme_ids() {
    for (const std::int64_t id : {INT64_MIN, std::int64_t{0}, INT64_MAX}) {
        TopK selection({2, 3}, kBits);
        check(selection.largest_distance(id) == 3, "every id is allowed at first");
        check(selection.push(3, id), "a tie at the radius enters");
        check(kept(selection) == std::vector<Pair>{{3, id}}, "and is kept");
    }
}

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    test_selections();
    test_repeated_ids();
    test_extreme_ids();
    std::puts("topk_test: all passed");
}
