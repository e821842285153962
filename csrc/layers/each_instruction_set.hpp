// Includes the file KIDSEG_LOOPS once for each instruction set, inside its namespace of loops.hpp and with its
// target options; hence no include guard here and none there.
#if defined(KIDSEG_X86)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
namespace avx512 {
#include KIDSEG_LOOPS
}  // namespace avx512
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#include KIDSEG_LOOPS
}  // namespace avx2
#pragma GCC pop_options
#endif
namespace baseline {
#include KIDSEG_LOOPS
}  // namespace baseline
#undef KIDSEG_LOOPS
