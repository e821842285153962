// The table of inner loops of each instruction set, and what its registers hold.
#pragma once

#include "base/instruction_sets.hpp"

namespace kidseg::layers {

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

}  // namespace detail

}  // namespace kidseg::layers
