// One build for every x86-64: inner loops are compiled once for each instruction set and picked at run time.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define KIDSEG_X86 1
#endif

namespace kidseg::conv {

// Worst first; `best` takes what the machine has.
enum class Isa { baseline, avx2, avx512, best };

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

// The best instruction set up to the wanted one that this machine has.
[[nodiscard]] inline Isa usable(Isa wanted) {
#if defined(KIDSEG_X86)
    static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    if (wanted >= Isa::avx512 && avx512) return Isa::avx512;
    if (wanted >= Isa::avx2 && avx2) return Isa::avx2;
#endif
    (void)wanted;
    return Isa::baseline;
}

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

}  // namespace kidseg::conv
