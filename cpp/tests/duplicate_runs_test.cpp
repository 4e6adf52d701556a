// Which entries stand behind each row of distinct codes, against a plain list of the rows of all entries.
#include "codes/duplicate_runs.h"

#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "duplicate_runs_test";

namespace {

using Runs = DuplicateRuns;
using Counts = std::vector<std::size_t>;  // entries of each row

Runs build(const Counts& counts) {
    Runs runs;
    for (const std::size_t n : counts) {
        runs.push_row();
        for (std::size_t i = 1; i < n; ++i) runs.push_entry();
    }
    return runs;
}

void check_same(const Runs& runs, const Counts& counts, const std::string& what) {
    std::vector<std::size_t> rows;  // of each entry
    check(runs.n_rows() == counts.size(), what + ": rows");
    for (std::size_t row = 0; row < counts.size(); ++row) {
        check(runs.begin(row) == rows.size(), what + ": first entry of a row");
        rows.insert(rows.end(), counts[row], row);
        check(runs.end(row) == rows.size(), what + ": end of a row");
        check(runs.is_shared(row) == (counts[row] > 1), what + ": whether a row has several entries");
    }
    check(runs.n_entries() == rows.size(), what + ": entries");
    check(runs.begin(counts.size()) == rows.size(), what + ": the end");
    for (std::size_t entry = 0; entry < rows.size(); ++entry) {
        check(runs.row_of(entry) == rows[entry], what + ": row of an entry");
        // From any row that is not beyond it.
        for (std::size_t back = 0; back <= rows[entry]; back = back * 3 + 1) {
            check(runs.row_of(entry, rows[entry] - back) == rows[entry],
                  what + ": row of an entry, from one before it");
        }
    }
}

template <typename T>
Array<T> copy_of(const Array<T>& values) {
    Array<T> copy;
    copy.append(values.data(), values.size());
    return copy;
}

void check_all(const Counts& counts, const std::string& what) {
    Runs runs = build(counts);
    check_same(runs, counts, what);
    runs.shrink_to_fit();
    check_same(runs, counts, what + ", shrunk");
    const bool distinct = std::all_of(counts.begin(), counts.end(), [](std::size_t n) { return n == 1; });
    check((runs.nbytes() == 0) == distinct, what + ": memory is taken only where codes come twice");
    const Runs of_file(runs.n_rows(), runs.n_entries(), copy_of(runs.marks()), copy_of(runs.extras()));
    check_same(of_file, counts, what + ", of a file");
}

void test_runs() {
    std::mt19937 generator(1);
    for (const std::size_t n_rows : {1, 2, 63, 64, 65, 127, 128, 129, 700}) {
        const std::string what = std::to_string(n_rows) + " rows";
        check_all(Counts(n_rows, 1), what + ", one entry each");
        check_all(Counts(n_rows, 3), what + ", three entries each");
        for (const std::size_t row : {std::size_t{0}, n_rows / 2, n_rows - 1}) {
            Counts one_is_long(n_rows, 1);
            one_is_long[row] = 500;
            check_all(one_is_long, what + ", one with 500 entries");
        }
        for (const unsigned in : {2U, 10U, 100U}) {
            Counts counts(n_rows);
            for (auto& n : counts) n = generator() % in == 0 ? 2 + generator() % 5 : 1;
            check_all(counts, what + ", some with several entries");
        }
    }
}

void test_without_entries() {
    check_same(Runs(), {}, "none");
    check_same(Runs(5), Counts(5, 1), "five distinct rows");
    Runs none;
    none.shrink_to_fit();
    check_same(none, {}, "none, shrunk");
}

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    test_runs();
    test_without_entries();
    std::puts("duplicate_runs_test: all passed");
}
