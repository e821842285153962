// Rows of voxels as runs: where the value changes is found 64 voxels at a time, so empty rows cost one read.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "grid.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace kidseg {

// Voxels [begin, end) of one row, all of one value.
template <class T>
struct Run {
    std::uint32_t begin;
    std::uint32_t end;
    T label;
};

enum class RunsOf { each_label, foreground, background };

namespace detail {

// Bit i is set where v[i] != v[i - 1], for i in [0, 64); reads v[-1].
template <class T>
inline std::uint64_t changes64(const T* v) {
    std::uint64_t bits = 0;
#if defined(__SSE2__)
    const auto load = [](const T* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
    if constexpr (sizeof(T) == 1) {
        const __m128i e0 = _mm_cmpeq_epi8(load(v), load(v - 1));
        const __m128i e1 = _mm_cmpeq_epi8(load(v + 16), load(v + 15));
        const __m128i e2 = _mm_cmpeq_epi8(load(v + 32), load(v + 31));
        const __m128i e3 = _mm_cmpeq_epi8(load(v + 48), load(v + 47));
        if (_mm_movemask_epi8(_mm_and_si128(_mm_and_si128(e0, e1), _mm_and_si128(e2, e3))) == 0xffff) return 0;
        const auto lane = [](__m128i e) { return static_cast<std::uint64_t>(static_cast<unsigned>(_mm_movemask_epi8(e))); };
        return ~(lane(e0) | lane(e1) << 16 | lane(e2) << 32 | lane(e3) << 48);
    } else if constexpr (sizeof(T) == 2) {
        for (int k = 0; k < 4; ++k) {
            const T* p = v + 16 * k;
            const __m128i e = _mm_packs_epi16(_mm_cmpeq_epi16(load(p), load(p - 1)), _mm_cmpeq_epi16(load(p + 8), load(p + 7)));
            bits |= static_cast<std::uint64_t>(static_cast<unsigned>(_mm_movemask_epi8(e))) << (16 * k);
        }
        return ~bits;
    } else if constexpr (sizeof(T) == 4) {
        for (int k = 0; k < 4; ++k) {
            const T* p = v + 16 * k;
            const __m128i a = _mm_packs_epi32(_mm_cmpeq_epi32(load(p), load(p - 1)), _mm_cmpeq_epi32(load(p + 4), load(p + 3)));
            const __m128i b = _mm_packs_epi32(_mm_cmpeq_epi32(load(p + 8), load(p + 7)), _mm_cmpeq_epi32(load(p + 12), load(p + 11)));
            bits |= static_cast<std::uint64_t>(static_cast<unsigned>(_mm_movemask_epi8(_mm_packs_epi16(a, b)))) << (16 * k);
        }
        return ~bits;
    }
#endif
    for (int i = 0; i < 64; ++i) bits |= static_cast<std::uint64_t>(v[i] != v[i - 1]) << i;
    return bits;
}

}  // namespace detail

// found(x) for every x in [0, n) where row[x] differs from row[x - 1]; before the row lies zero.
template <class T, class Found>
inline void for_each_change(const T* row, Index n, Found&& found) {
    if (n > 0 && row[0] != T{}) found(Index{0});
    Index x = 1;
    for (; x + 64 <= n; x += 64) {
        std::uint64_t bits = detail::changes64(row + x);
        while (bits != 0) {
            found(x + __builtin_ctzll(bits));
            bits &= bits - 1;
        }
    }
    for (; x < n; ++x)
        if (row[x] != row[x - 1]) found(x);
}

// Reads the rows of a grid in memory order, gathering a row only where its voxels do not lie side by side.
template <class T>
class RowReader {
public:
    explicit RowReader(const Grid<const T>& grid) : grid_(grid) {
        if (grid.shape[2] > 1 && grid.stride[2] != 1) buffer_.resize(static_cast<std::size_t>(grid.shape[2]));
    }
    [[nodiscard]] const T* operator()(Index z, Index y) {
        const T* row = grid_.row(z, y);
        if (buffer_.empty()) return row;
        for (std::size_t x = 0; x < buffer_.size(); ++x) buffer_[x] = row[static_cast<Index>(x) * grid_.stride[2]];
        return buffer_.data();
    }

private:
    Grid<const T> grid_;
    std::vector<T> buffer_;
};

// The runs of one row, appended.
template <class T>
void append_runs(const T* row, Index n, RunsOf which, std::vector<Run<T>>& runs) {
    Index begin = 0;
    T current{};
    const auto push = [&](Index end) {
        runs.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end), current});
    };
    if (which == RunsOf::each_label) {
        for_each_change(row, n, [&](Index x) {
            if (current != T{}) push(x);
            begin = x;
            current = row[x];
        });
        if (current != T{}) push(n);
        return;
    }
    bool inside = which == RunsOf::background && n > 0;
    for_each_change(row, n, [&](Index x) {
        const bool now = (row[x] != T{}) == (which == RunsOf::foreground);
        if (inside && !now && x > begin) push(x);
        if (now && !inside) begin = x;
        inside = now;
    });
    if (inside) push(n);
}

inline void require_row_length(const Index3& shape) {
    if (shape[2] > Index{0xffffffff}) throw std::length_error("a row may hold at most 4294967295 voxels");
}

}  // namespace kidseg
