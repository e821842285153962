// One build for every x86-64: hot loops are compiled a second time for AVX2 machines and picked at run time.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KIDSEG_FLAT  // checks would multiply
#else
#define KIDSEG_FLAT , flatten
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define KIDSEG_WIDE __attribute__((target("avx2,bmi,bmi2,popcnt") KIDSEG_FLAT))
#else
#define KIDSEG_WIDE
#endif

namespace kidseg {

[[nodiscard]] inline bool has_wide() {
#if defined(__x86_64__) && defined(__GNUC__)
    static const bool yes = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                            __builtin_cpu_supports("popcnt");
    return yes;
#else
    return false;
#endif
}

}  // namespace kidseg
