// One row of voxels as bits and as runs of equal voxels.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "base/grid.hpp"
#include "base/voxel_words.hpp"
#include "components/union_find.hpp"

namespace kidseg {

// Voxels [begin, end) of one row, all of one value.
struct Run {
    std::uint32_t begin;
    std::uint32_t end;
};

// Which voxels belong to runs, and whether a change of label ends one.
enum class RunsOf { each_label, foreground, background };

// The bits of one row, 64 voxels a word, with an empty word on either side; meaningless where `any` is false.
template <class T>
struct RowBits {
    explicit RowBits(Index n)
        : inside(words_of(n)), starts(words_of(n)), ends(words_of(n)), first(words_of(n)), labels(std::size_t(n)) {}

    std::vector<Word> inside;  // voxels that belong to a run
    std::vector<Word> starts;  // first voxels of runs
    std::vector<Word> ends;    // last voxels of runs
    std::vector<RunId> first;  // id of the first run that starts in a word
    std::vector<T> labels;     // of each run; zero where labels are not told apart
    RunId first_id = 0;
    RunId n_runs = 0;
    bool any = false;
    std::size_t from = 0, to = 0;  // words outside [from, to) are empty

    // Id of the run that holds bit `bit` of word w.
    [[nodiscard]] KIDSEG_INLINE RunId id(std::size_t w, unsigned bit) const {
        return first[w] + static_cast<RunId>(__builtin_popcountll(starts[w] & (~Word{0} >> (63 - bit)))) - 1;
    }

    // `runs` has room for n; the first n_runs of them are this row's.
    KIDSEG_INLINE void read(const T* row, Index n, RunsOf which, RunId next_id, std::vector<Run>& runs) {
        first_id = next_id;
        n_runs = 0;
        any = which == RunsOf::background ? n > 0 : !all_zero(row, n);
        if (!any) return;
        read_words(row, n, which);
        list_runs(row, which, runs);
    }

private:
    [[nodiscard]] static std::size_t words_of(Index n) { return static_cast<std::size_t>((n + 63) / 64 + 2); }

    KIDSEG_INLINE void read_words(const T* row, Index n, RunsOf which) {
        T padded[65];
        T before{};
        from = inside.size();
        to = 0;
        for (std::size_t w = 1; w + 1 < inside.size(); ++w) {
            const Index x = 64 * static_cast<Index>(w - 1);
            const Word carry = inside[w - 1] >> 63;
            const T* v = row + x;
            const bool whole = x + 64 <= n;
            Word in, change;
            if (whole && all_equal(v, before)) {
                in = (before != T{}) == (which != RunsOf::background) ? ~Word{0} : 0;
                change = which == RunsOf::each_label ? 0 : in ^ (in << 1 | carry);
            } else {
                if (!whole || x == 0) {
                    const auto m = static_cast<std::size_t>(whole ? 64 : n - x);
                    padded[0] = before;
                    std::memcpy(padded + 1, v, sizeof(T) * m);
                    std::fill(padded + 1 + m, padded + 65, T{});
                    v = padded + 1;
                }
                in = differs_from(v, T{});
                if (which == RunsOf::background) in = whole ? ~in : ~in & ~(~Word{0} << (n - x));
                change = which == RunsOf::each_label ? differs_from_before(v) : in ^ (in << 1 | carry);
                before = v[63];
            }
            inside[w] = in;
            starts[w] = in & change;
            ends[w] = in & (change >> 1);
            ends[w - 1] |= inside[w - 1] & (change << 63);
            if (in != 0) {
                from = std::min(from, w);
                to = w + 1;
            }
        }
        ends[inside.size() - 2] |= inside[inside.size() - 2] & Word{1} << 63;
    }

    KIDSEG_INLINE void list_runs(const T* row, RunsOf which, std::vector<Run>& runs) {
        Run* begin = runs.data();
        Run* end = runs.data();
        for (std::size_t w = from; w < to; ++w) {
            const auto x = static_cast<std::uint32_t>(64 * (w - 1));
            first[w] = first_id + static_cast<RunId>(begin - runs.data());
            for (Word bits = starts[w]; bits != 0; bits &= bits - 1) (begin++)->begin = x + lowest_bit(bits);
            for (Word bits = ends[w]; bits != 0; bits &= bits - 1) (end++)->end = x + lowest_bit(bits) + 1;
        }
        n_runs = static_cast<RunId>(begin - runs.data());
        if (which == RunsOf::each_label)
            for (RunId i = 0; i < n_runs; ++i) labels[i] = row[runs[i].begin];
    }
};

// touch(run of a, run of b) for every pair of runs that share a column or, with corners, end in columns side by side.
template <class T, class Touch>
KIDSEG_INLINE void for_each_touch(const RowBits<T>& a, const RowBits<T>& b, bool corners, Touch&& touch) {
    const std::size_t to = std::min(a.to, b.to + 1);
    for (std::size_t w = std::max(a.from, b.from - 1); w < to; ++w) {
        if (a.inside[w] == 0) continue;
        for (Word bits = a.inside[w] & b.inside[w] & (a.starts[w] | b.starts[w]); bits != 0; bits &= bits - 1) {
            const auto i = lowest_bit(bits);
            touch(a.id(w, i), b.id(w, i));
        }
        if (!corners) continue;
        for (Word bits = a.starts[w] & (b.ends[w] << 1 | b.ends[w - 1] >> 63); bits != 0; bits &= bits - 1) {
            const auto i = lowest_bit(bits);
            touch(a.id(w, i), i > 0 ? b.id(w, i - 1) : b.id(w - 1, 63));
        }
        for (Word bits = a.ends[w] & (b.starts[w] >> 1 | b.starts[w + 1] << 63); bits != 0; bits &= bits - 1) {
            const auto i = lowest_bit(bits);
            touch(a.id(w, i), i < 63 ? b.id(w, i + 1) : b.id(w + 1, 0));
        }
    }
}

inline void require_row_length(const Index3& shape) {
    if (shape[2] > Index{0xffffffff}) throw std::length_error("a row may hold at most 4294967295 voxels");
}

}  // namespace kidseg
