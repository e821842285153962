// Where layers run: their inner loops for each instruction set, what its registers hold, and the threads.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "base/feature_map.hpp"
#include "base/instruction_sets.hpp"

namespace kidseg::layers {

// Runs task(i) for every i in [0, n), in any order and on any threads, and returns when all are done.
using Parallel = std::function<void(Index n, const std::function<void(Index)>& task)>;

struct Machine {
    Parallel parallel;
    Isa isa = Isa::best;
};

namespace detail {

// Output channels in a wide and a narrow block, outputs along x and input channels of a kernel gradient that registers
// hold; and the table of one header's inner loops, which that header specializes.
namespace avx512 {
constexpr int lanes = 16, narrow = 8, max_columns = 24, max_channels = 8;
template <class Loops>
Loops loops() = delete;
}  // namespace avx512

namespace avx2 {
constexpr int lanes = 8, narrow = 8, max_columns = 10, max_channels = 4;
template <class Loops>
Loops loops() = delete;
}  // namespace avx2

namespace baseline {
#if defined(KIDSEG_X86)
constexpr int lanes = 4, narrow = 4, max_columns = 10, max_channels = 4;
#else
constexpr int lanes = 4, narrow = 4, max_columns = 24, max_channels = 8;
#endif
template <class Loops>
Loops loops() = delete;
}  // namespace baseline

template <class Loops>
[[nodiscard]] Loops loops_of(Isa wanted) {
#if defined(KIDSEG_X86)
    if (usable(wanted) == Isa::avx512) return avx512::loops<Loops>();
    if (usable(wanted) == Isa::avx2) return avx2::loops<Loops>();
#endif
    (void)wanted;
    return baseline::loops<Loops>();
}

// Output channels [first, first + lanes) of which `valid` exist.
struct Block {
    Index first;
    int lanes, valid;
};

// The inner loops for wide and for narrow blocks of output channels.
template <class Loops>
struct LoopsOfBlocks {
    int wide, narrow;
    Loops of_wide, of_narrow;

    [[nodiscard]] const Loops& of(const Block& block) const { return block.lanes == wide ? of_wide : of_narrow; }

    [[nodiscard]] std::vector<Block> blocks(Index channels) const {
        std::vector<Block> all;
        for (Index c = 0; c < channels; c += all.back().lanes) {
            const int lanes = channels - c > narrow ? wide : narrow;
            all.push_back({c, lanes, static_cast<int>(std::min<Index>(lanes, channels - c))});
        }
        return all;
    }
};

}  // namespace detail

}  // namespace kidseg::layers
