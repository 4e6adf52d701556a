// Numbers of few bytes against a plain vector: at both ends of every width, set one by one, and read from a file's
// bytes.
#include "codes/packed_numbers.h"

#include <thread>

#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "packed_numbers_test";

namespace {

using Range = std::pair<std::int64_t, std::int64_t>;  // smallest and largest number

// Ranges that just fit into 1, 2, ... 8 bytes and that just do not, counted from several numbers.
std::vector<Range> ranges() {
    std::vector<Range> all = {{0, 0}, {-7, -7}, {INT64_MIN, INT64_MAX}, {INT64_MAX, INT64_MAX}, {INT64_MIN, INT64_MIN}};
    for (int bits = 8; bits < 63; bits += 8) {
        for (const std::int64_t largest : {(std::int64_t{1} << bits) - 1, std::int64_t{1} << bits}) {
            all.insert(all.end(), {{0, largest}, {-5, largest - 5}, {INT64_MIN, INT64_MIN + largest}});
            all.emplace_back(INT64_MAX - largest, INT64_MAX);
        }
    }
    return all;
}

// How many of its last bytes may not be left out.
std::size_t bytes_of(std::uint64_t number) {
    std::size_t n = 1;
    for (std::size_t byte = 1; byte < 8; ++byte) {
        if ((number >> (8 * byte) & 0xff) != 0) n = byte + 1;
    }
    return n;
}

// Both ends of a range, and numbers between them.
std::vector<std::int64_t> some_numbers(const Range& range, std::mt19937_64& generator) {
    const auto smallest = static_cast<std::uint64_t>(range.first);
    const std::uint64_t size = static_cast<std::uint64_t>(range.second) - smallest;
    std::vector<std::int64_t> numbers = {range.first, range.second};
    for (int i = 0; i < 100; ++i) {
        const std::uint64_t offset = size == UINT64_MAX ? generator() : generator() % (size + 1);
        numbers.push_back(static_cast<std::int64_t>(smallest + offset));
    }
    std::shuffle(numbers.begin(), numbers.end(), generator);
    return numbers;
}

void check_same(const PackedNumbers& packed, const std::vector<std::int64_t>& numbers, const char* what) {
    check(packed.size() == numbers.size(), std::string(what) + ": size");
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        const std::uint64_t offset =
            static_cast<std::uint64_t>(numbers[i]) - static_cast<std::uint64_t>(packed.smallest());
        check(packed[i] == numbers[i], std::string(what) + ": number");
        check(packed.offset(i) == offset && packed.number_at(offset) == numbers[i], std::string(what) + ": offset");
    }
}

void test_ranges() {
    std::mt19937_64 generator(1);
    for (const Range& range : ranges()) {
        const auto numbers = some_numbers(range, generator);
        PackedNumbers packed(range.first, range.second);
        const auto largest = static_cast<std::uint64_t>(range.second) - static_cast<std::uint64_t>(range.first);
        check(packed.width() == bytes_of(largest), "as many bytes as the range needs");
        check(packed.size() == 0, "none at first");
        for (const std::int64_t number : numbers) packed.push_back(number);
        check_same(packed, numbers, "pushed");
        packed.shrink_to_fit();
        check(packed.nbytes() == numbers.size() * packed.width() + PackedNumbers::kSlack, "no byte more");
        check_same(packed, numbers, "shrunk");

        PackedNumbers set(range.first, range.second);
        set.resize(numbers.size());
        for (std::size_t i = numbers.size(); i-- > 0;) set.set(i, numbers[i]);  // overwrites no number that was set
        check_same(set, numbers, "set from the last to the first");
        for (std::size_t i = 0; i < numbers.size(); ++i) set.set(i, numbers[i]);
        check_same(set, numbers, "set from the first to the last");
        set.resize(10);
        check_same(set, {numbers.begin(), numbers.begin() + 10}, "fewer");
    }
}

void test_bytes_of_a_file() {
    std::mt19937_64 generator(2);
    for (std::size_t width = 1; width <= 8; ++width) {
        const std::size_t n = 50;
        std::vector<std::uint8_t> bytes(n * width + PackedNumbers::kSlack);
        for (auto& byte : bytes) byte = static_cast<std::uint8_t>(generator());
        std::vector<std::int64_t> numbers(n);
        for (std::size_t i = 0; i < n; ++i) {
            std::uint64_t offset = 0;
            for (std::size_t byte = width; byte-- > 0;) offset = offset << 8 | bytes[i * width + byte];
            numbers[i] = static_cast<std::int64_t>(offset - 9);
        }
        auto view = Array<std::uint8_t>::view(bytes.data(), bytes.size());
        const auto packed = PackedNumbers::of_width(-9, width, std::move(view));
        check(packed.width() == width && packed.nbytes() == 0, "they are the file's");
        check_same(packed, numbers, "of a file");
        check(std::equal(bytes.begin(), bytes.end(), packed.bytes().begin(), packed.bytes().end()), "bytes");
    }
}

// Each thread sets every fourth number; the bytes between them are others'.
void test_threads_set_neighbours() {
    constexpr std::size_t kNumbers = 20'000, kThreads = 4;
    PackedNumbers packed(-1000, 1 << 20);
    packed.resize(kNumbers);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < kThreads; ++t) {
        threads.emplace_back([&packed, t] {
            for (std::size_t i = t; i < kNumbers; i += kThreads)
                packed.set(i, static_cast<std::int64_t>(i * 50) - 1000);
        });
    }
    for (auto& thread : threads) thread.join();
    for (std::size_t i = 0; i < kNumbers; ++i)
        check(packed[i] == static_cast<std::int64_t>(i * 50) - 1000, "by threads");
}

void test_none() {
    const PackedNumbers none;
    check(none.size() == 0 && none.nbytes() == 0, "none");
    check(PackedNumbers::of_width(3, 2).size() == 0, "none of a width");
}

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    test_ranges();
    test_bytes_of_a_file();
    test_threads_set_neighbours();
    test_none();
    std::puts("packed_numbers_test: all passed");
}
