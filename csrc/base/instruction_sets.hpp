// One build for every x86-64: hot loops are compiled once for each instruction set and picked at run time.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define KIDSEG_X86 1
#endif

// Everything between the two is compiled for a machine with these features.
#define KIDSEG_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define KIDSEG_TARGET(features) \
    KIDSEG_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define KIDSEG_END_TARGET KIDSEG_PRAGMA(clang attribute pop)
#else
#define KIDSEG_TARGET(features) KIDSEG_PRAGMA(GCC push_options) KIDSEG_PRAGMA(GCC target(features))
#define KIDSEG_END_TARGET KIDSEG_PRAGMA(GCC pop_options)
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KIDSEG_FLAT  // checks would multiply
#else
#define KIDSEG_FLAT , flatten
#endif

#define KIDSEG_INLINE inline __attribute__((always_inline))

// A function that is compiled for AVX2 machines, all that it calls with it; Clang takes in what is KIDSEG_INLINE.
#if defined(KIDSEG_X86)
#define KIDSEG_AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt") KIDSEG_FLAT))
#else
#define KIDSEG_AVX2
#endif

namespace kidseg {

// Worst first; `best` takes what the machine has.
enum class Isa { baseline, avx2, avx512, best };

// The best instruction set up to the wanted one that this machine has.
[[nodiscard]] inline Isa usable(Isa wanted) {
#if defined(KIDSEG_X86)
    static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                             __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                             __builtin_cpu_supports("popcnt");
    static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    if (wanted >= Isa::avx512 && avx512) return Isa::avx512;
    if (wanted >= Isa::avx2 && avx2) return Isa::avx2;
#endif
    (void)wanted;
    return Isa::baseline;
}

}  // namespace kidseg
