// How often a short cut succeeds, so that it is tried only where it pays. Threads share it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>

#include "fasthash/search.h"

namespace fasthash {

class SuccessRate {
 public:
    /// True while little is known, and as long as this share of the tries succeeds. One call of 64 is true anyway, as
    /// searches may change.
    bool is_worthwhile(double least_share) {
        constexpr std::uint64_t kKnown = 64, kRetried = 64;
        const std::uint64_t n_tried = tried_;
        const double least = least_share * static_cast<double>(n_tried);
        if (n_tried < kKnown || static_cast<double>(successful_) >= least) return true;
        return ++skipped_ % kRetried == 0;
    }
    void note(std::uint64_t n_tried, std::uint64_t n_successful) {
        constexpr std::uint64_t kMost = 4096;
        if ((tried_ += n_tried) > kMost) {  // what happened long ago counts less and less
            tried_ = tried_ / 2;
            successful_ = successful_ / 2;
        }
        successful_ += n_successful;
    }

 private:
    std::atomic<std::uint64_t> tried_{0}, successful_{0}, skipped_{0};
};

/// How often exact search answers a pruned one. Apart for each mode, and for shares that differ by a fifth: large
/// shares succeed where small ones fail.
class SafeSearchRates {
 public:
    SuccessRate& of(const Pruning& pruning) {
        const double step = -kStepsOfHalving * std::log2(pruning.keep);
        return rates_[static_cast<int>(pruning.mode)][static_cast<int>(std::clamp<double>(step, 0, kMostSteps))];
    }

 private:
    static constexpr int kModes = 3, kStepsOfHalving = 4, kMostSteps = 4 * kStepsOfHalving;

    SuccessRate rates_[kModes][kMostSteps + 1];
};

}  // namespace fasthash
