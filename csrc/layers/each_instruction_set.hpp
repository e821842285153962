// Includes the file KIDSEG_LOOPS once for each instruction set, inside its namespace of loops.hpp and with its target
// options; hence no include guard here and none there.
#if defined(KIDSEG_X86)
KIDSEG_TARGET("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
namespace avx512 {
#include KIDSEG_LOOPS
}  // namespace avx512
KIDSEG_END_TARGET
KIDSEG_TARGET("avx2,fma")
namespace avx2 {
#include KIDSEG_LOOPS
}  // namespace avx2
KIDSEG_END_TARGET
#endif
namespace baseline {
#include KIDSEG_LOOPS
}  // namespace baseline
#undef KIDSEG_LOOPS
