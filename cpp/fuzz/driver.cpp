// Random inputs, for compilers without libFuzzer: TARGET [-max_total_time=SECONDS] [-seed=NUMBER] [FILE ...]
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) {
    double seconds = 10;
    unsigned long seed = 1;
    std::size_t n_files = 0;
    for (int i = 1; i < argc; ++i) {
        if (std::strncmp(argv[i], "-max_total_time=", 16) == 0) {
            seconds = std::atof(argv[i] + 16);
        } else if (std::strncmp(argv[i], "-seed=", 6) == 0) {
            seed = std::strtoul(argv[i] + 6, nullptr, 10);
        } else if (std::FILE* file = std::fopen(argv[i], "rb")) {  // an input to repeat
            std::vector<std::uint8_t> input(1 << 20);
            input.resize(std::fread(input.data(), 1, input.size(), file));
            std::fclose(file);
            LLVMFuzzerTestOneInput(input.data(), input.size());
            ++n_files;
        } else {
            std::fprintf(stderr, "cannot read %s\n", argv[i]);
            return 1;
        }
    }
    if (n_files > 0) return 0;
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    std::mt19937 generator(static_cast<std::mt19937::result_type>(seed));
    std::size_t n = 0;
    for (; std::chrono::steady_clock::now() < end; ++n) {
        std::vector<std::uint8_t> input(generator() % 2 == 0 ? generator() % 16 : generator() % 256);
        for (auto& byte : input) byte = static_cast<std::uint8_t>(generator());
        // Save the input first, in case it crashes the process.
        if (std::FILE* file = std::fopen("fuzz-input", "wb")) {
            if (!input.empty()) std::fwrite(input.data(), 1, input.size(), file);
            std::fclose(file);
        }
        LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    std::remove("fuzz-input");
    std::printf("%s: %zu inputs, all passed\n", argv[0], n);
    return 0;
}
