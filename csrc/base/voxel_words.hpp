// 64 voxels at a time: which differ from zero, which from the voxel before, whether all are alike.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/grid.hpp"
#include "base/instruction_sets.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace kidseg {

using Word = std::uint64_t;

[[nodiscard]] KIDSEG_INLINE unsigned lowest_bit(Word bits) { return static_cast<unsigned>(__builtin_ctzll(bits)); }

namespace detail {

#if defined(__SSE2__)

template <class T>
inline __m128i load(const T* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

// A byte of 0xff for each of 16 voxels equal to those of `other(i)`, i counting 16-byte vectors.
template <class T, class Other>
inline __m128i equal16(const T* v, Other&& other) {
    const auto step = static_cast<int>(16 / sizeof(T));
    if constexpr (sizeof(T) == 1) {
        return _mm_cmpeq_epi8(load(v), other(0));
    } else if constexpr (sizeof(T) == 2) {
        return _mm_packs_epi16(_mm_cmpeq_epi16(load(v), other(0)), _mm_cmpeq_epi16(load(v + step), other(1)));
    } else {
        const auto equal = [&](int i) { return _mm_cmpeq_epi32(load(v + i * step), other(i)); };
        return _mm_packs_epi16(_mm_packs_epi32(equal(0), equal(1)), _mm_packs_epi32(equal(2), equal(3)));
    }
}

template <class T>
inline __m128i broadcast(T value) {
    if constexpr (sizeof(T) == 1) return _mm_set1_epi8(static_cast<char>(value));
    else if constexpr (sizeof(T) == 2) return _mm_set1_epi16(static_cast<short>(value));
    else return _mm_set1_epi32(static_cast<int>(value));
}

inline Word bits_of_bytes(__m128i bytes) { return static_cast<Word>(static_cast<unsigned>(_mm_movemask_epi8(bytes))); }

template <class T>
constexpr bool has_vectors = sizeof(T) <= 4;
#else
template <class T>
constexpr bool has_vectors = false;
#endif

}  // namespace detail

// Bit i is set where v[i] differs from `value`.
template <class T>
[[nodiscard]] KIDSEG_INLINE Word differs_from(const T* v, T value) {
    Word bits = 0;
    if constexpr (detail::has_vectors<T>) {
#if defined(__SSE2__)
        const __m128i all = detail::broadcast(value);
        for (int k = 0; k < 4; ++k)
            bits |= detail::bits_of_bytes(detail::equal16(v + 16 * k, [&](int) { return all; })) << (16 * k);
        return ~bits;
#endif
    }
    for (int i = 0; i < 64; ++i) bits |= static_cast<Word>(v[i] != value) << i;
    return bits;
}

// Bit i is set where v[i] differs from v[i - 1]; reads v[-1].
template <class T>
[[nodiscard]] KIDSEG_INLINE Word differs_from_before(const T* v) {
    Word bits = 0;
    if constexpr (detail::has_vectors<T>) {
#if defined(__SSE2__)
        for (int k = 0; k < 4; ++k) {
            const T* p = v + 16 * k - 1;
            const auto before = [&](int i) { return detail::load(p + i * static_cast<int>(16 / sizeof(T))); };
            bits |= detail::bits_of_bytes(detail::equal16(v + 16 * k, before)) << (16 * k);
        }
        return ~bits;
#endif
    }
    for (int i = 0; i < 64; ++i) bits |= static_cast<Word>(v[i] != v[i - 1]) << i;
    return bits;
}

// Whether 64 voxels all have one value.
template <class T>
[[nodiscard]] KIDSEG_INLINE bool all_equal(const T* v, T value) {
    if constexpr (sizeof(T) == 1 && detail::has_vectors<T>) {
#if defined(__SSE2__)
        const __m128i all = detail::broadcast(value);
        const __m128i a = _mm_cmpeq_epi8(detail::load(v), all), b = _mm_cmpeq_epi8(detail::load(v + 16), all);
        const __m128i c = _mm_cmpeq_epi8(detail::load(v + 32), all), d = _mm_cmpeq_epi8(detail::load(v + 48), all);
        return _mm_movemask_epi8(_mm_and_si128(_mm_and_si128(a, b), _mm_and_si128(c, d))) == 0xffff;
#endif
    }
    T any{};
    for (int i = 0; i < 64; ++i) any = static_cast<T>(any | (v[i] ^ value));
    return any == T{};
}

// Whether n voxels are all zero.
template <class T>
[[nodiscard]] KIDSEG_INLINE bool all_zero(const T* v, Index n) {
    constexpr Index step = 256 / static_cast<Index>(sizeof(T));
    Index i = 0;
    for (; i + step <= n; i += step) {
        Word any = 0;
        for (Index k = 0; k < step; k += 8 / static_cast<Index>(sizeof(T))) {
            Word word;
            std::memcpy(&word, v + i + k, sizeof(word));
            any |= word;
        }
        if (any != 0) return false;
    }
    for (; i < n; ++i)
        if (v[i] != T{}) return false;
    return true;
}

}  // namespace kidseg
