// Labels on a finer grid from the scores of a network: the class of the largest interpolated score.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/voxel_words.hpp"
#include "resample/separable.hpp"

namespace kidseg {

// Scores of c classes on a grid, at any strides.
struct Scores {
    const float* data = nullptr;
    Index classes = 0;
    Index class_stride = 0;
    Index3 shape{};
    Index3 stride{};

    [[nodiscard]] const float* row(Index z, Index y) const { return data + z * stride[0] + y * stride[1]; }
    [[nodiscard]] bool rows_are_packed() const { return class_stride == 1 && stride[2] == classes; }
};

namespace detail {

// The class of the largest of n scores, of equal ones the smallest.
template <class Score>
[[nodiscard]] inline std::uint8_t winner(std::size_t n, Score&& score) {
    float best = score(std::size_t{0});
    std::size_t first = 0;
    for (std::size_t c = 1; c < n; ++c) {
        const float value = score(c);
        first = value > best ? c : first;
        best = value > best ? value : best;
    }
    return static_cast<std::uint8_t>(first);
}

#if defined(__SSE2__)
// The winner of here * v[c] + next * after[c] over at most 8 classes at once; 8 floats are read from each.
class EightLanes {
public:
    explicit EightLanes(std::size_t classes) {
        float others[8];
        for (std::size_t c = 0; c < 8; ++c) others[c] = c < classes ? 0.0f : -std::numeric_limits<float>::infinity();
        low_others_ = _mm_loadu_ps(others), high_others_ = _mm_loadu_ps(others + 4);
        low_ = _mm_cmpeq_ps(low_others_, _mm_setzero_ps()), high_ = _mm_cmpeq_ps(high_others_, _mm_setzero_ps());
    }

    [[nodiscard]] std::uint8_t winner(const float* v, const float* after, float here, float next) const {
        const __m128 low = blend(v, after, here, next, low_, low_others_);
        const __m128 high = blend(v + 4, after + 4, here, next, high_, high_others_);
        __m128 best = _mm_max_ps(low, high);
        best = _mm_max_ps(best, _mm_shuffle_ps(best, best, _MM_SHUFFLE(1, 0, 3, 2)));
        best = _mm_max_ps(best, _mm_shuffle_ps(best, best, _MM_SHUFFLE(2, 3, 0, 1)));
        const int at = _mm_movemask_ps(_mm_cmpeq_ps(low, best)) | _mm_movemask_ps(_mm_cmpeq_ps(high, best)) << 4;
        return static_cast<std::uint8_t>(at == 0 ? 0 : lowest_bit(static_cast<Word>(at)));
    }

private:
    [[nodiscard]] static __m128 blend(const float* v, const float* after, float here, float next, __m128 ours,
                                      __m128 others) {
        const __m128 sum = _mm_add_ps(_mm_mul_ps(_mm_set1_ps(here), _mm_loadu_ps(v)),
                                      _mm_mul_ps(_mm_set1_ps(next), _mm_loadu_ps(after)));
        return _mm_or_ps(_mm_and_ps(sum, ours), others);
    }

    __m128 low_, high_, low_others_, high_others_;
};
#endif

inline void winners_of_row(const Scores& in, Index z, Index y, std::uint8_t* to) {
    const float* v = in.row(z, y);
    const auto classes = static_cast<std::size_t>(in.classes);
    Index x = 0;
#if defined(__SSE2__)
    const EightLanes lanes(classes);
    if (classes <= 8 && in.rows_are_packed())
        for (; x * in.classes + 8 <= in.shape[2] * in.classes; ++x, v += in.classes)
            *to++ = lanes.winner(v, v, 1.0f, 0.0f);
#endif
    for (; x < in.shape[2]; ++x, v += in.stride[2])
        *to++ = winner(classes, [&](std::size_t c) { return v[static_cast<Index>(c) * in.class_stride]; });
}

// Neighbouring output voxels of a row that lie between the same two source voxels, or on one.
struct Cell {
    std::size_t source, begin, end;
    bool two;
};

[[nodiscard]] inline std::vector<Cell> cells_of(const std::vector<Taps>& taps) {
    std::vector<Cell> cells;
    for (std::size_t x = 0; x < taps.size(); ++x) {
        const Cell cell{static_cast<std::size_t>(taps[x].first), x, x + 1, taps[x].weights.size() > 1};
        if (!cells.empty() && cells.back().source == cell.source && cells.back().two == cell.two)
            cells.back().end = x + 1;
        else cells.push_back(cell);
    }
    return cells;
}

// The source rows that an output row blends, and where they all have one winner.
class BlendedRow {
public:
    BlendedRow(const Scores& in, const std::vector<std::uint8_t>& winners)
        : in_(in),
          winners_(winners),
          agreed_(static_cast<std::size_t>(in.shape[2])),
          blend_(agreed_.size() * static_cast<std::size_t>(in.classes) + 8) {}

    void take(const Taps& z, const Taps& y) {
        z_ = &z, y_ = &y, blended_ = false, last_x_ = agreed_.size();
        const std::size_t nz = z.weights.size(), ny = y.weights.size();
        if (first_y_ == y.first && ny_ == ny) return;
        first_y_ = y.first, ny_ = ny;
        for (std::size_t x = 0; x < agreed_.size(); ++x) agreed_[x] = row_winners(0, 0)[x];
        for (std::size_t i = 0; i < nz; ++i)
            for (std::size_t j = i == 0 ? 1 : 0; j < ny; ++j) {
                const std::uint8_t* others = row_winners(i, j);
                for (std::size_t x = 0; x < agreed_.size(); ++x)
                    agreed_[x] = agreed_[x] == others[x] ? agreed_[x] : none;
            }
        alike_ = agreed_[0] != none && std::equal(agreed_.begin() + 1, agreed_.end(), agreed_.begin());
    }

    // A class that wins in all voxels that are blended, or at both ends of a cell, wins between: no weight is negative.
    void write_labels(const std::vector<Cell>& cells, const std::vector<Taps>& x, std::uint8_t* to) {
        if (alike_) return static_cast<void>(std::fill_n(to, x.size(), static_cast<std::uint8_t>(agreed_[0])));
        std::size_t begin = 0;  // of a run of one value
        std::int16_t value = none;
        const auto write_run = [&](std::size_t end) {
            if (value != none) std::fill(to + begin, to + end, static_cast<std::uint8_t>(value));
        };
        for (const Cell& cell : cells) {
            const std::int16_t here = winner_at(cell.source);
            const std::int16_t agreed = cell.two && winner_at(cell.source + 1) != here ? none : here;
            if (agreed != value) {
                write_run(cell.begin);
                begin = cell.begin, value = agreed;
            }
            if (agreed == none)
                for (std::size_t i = cell.begin; i < cell.end; ++i) to[i] = blended_label(x[i]);
        }
        write_run(x.size());
    }

private:
    static constexpr std::int16_t none = -1;

    [[nodiscard]] const std::uint8_t* row_winners(std::size_t i, std::size_t j) const {
        const Index z = z_->first + static_cast<Index>(i), y = y_->first + static_cast<Index>(j);
        return winners_.data() + (z * in_.shape[1] + y) * in_.shape[2];
    }

    // The winner of the blended row at a source voxel; neighbouring cells ask for the one between them in turn.
    [[nodiscard]] std::int16_t winner_at(std::size_t x) {
        if (agreed_[x] != none) return agreed_[x];
        if (last_x_ != x) last_x_ = x, last_winner_ = blended_label(x, false, 1.0f, 0.0f);
        return last_winner_;
    }

    [[nodiscard]] std::uint8_t blended_label(const Taps& x) {
        const bool two = x.weights.size() > 1;
        return blended_label(static_cast<std::size_t>(x.first), two, x.weights[0], two ? x.weights[1] : 0.0f);
    }

    [[nodiscard]] std::uint8_t blended_label(std::size_t x, bool two, float a, float b) {
        if (!blended_) blend();
        const auto classes = static_cast<std::size_t>(in_.classes);
        const float *here = blend_.data() + x * classes, *next = two ? here + classes : here;
#if defined(__SSE2__)
        if (classes <= 8) return lanes_.winner(here, next, a, b);
#endif
        return winner(classes, [&](std::size_t c) { return a * here[c] + b * next[c]; });
    }

    struct Weighted {
        const float* row;
        float weight;
    };

    void blend() {
        blended_ = true;
        std::array<Weighted, 4> rows{};
        std::size_t n = 0;
        for (std::size_t i = 0; i < z_->weights.size(); ++i)
            for (std::size_t j = 0; j < y_->weights.size(); ++j)
                rows[n++] = {in_.row(z_->first + static_cast<Index>(i), y_->first + static_cast<Index>(j)),
                             z_->weights[i] * y_->weights[j]};
        if (n == 4) blend_rows<4>(rows);
        else if (n == 2) blend_rows<2>(rows);
        else blend_rows<1>(rows);
    }

    template <std::size_t n>
    void blend_rows(const std::array<Weighted, 4>& rows) {
        const auto sum = [&](Index at) {
            float total = rows[0].weight * rows[0].row[at];
            for (std::size_t i = 1; i < n; ++i) total += rows[i].weight * rows[i].row[at];
            return total;
        };
        float* to = blend_.data();
        if (in_.rows_are_packed())
            for (Index at = 0; at < in_.shape[2] * in_.classes; ++at) to[at] = sum(at);
        else
            for (Index x = 0; x < in_.shape[2]; ++x)
                for (Index c = 0; c < in_.classes; ++c) *to++ = sum(x * in_.stride[2] + c * in_.class_stride);
    }

    const Scores& in_;
    const std::vector<std::uint8_t>& winners_;
    const Taps *z_ = nullptr, *y_ = nullptr;
    Index first_y_ = -1;
    std::size_t ny_ = 0;
    bool blended_ = false, alike_ = false;
    std::size_t last_x_ = 0;
    std::int16_t last_winner_ = none;
    std::vector<std::int16_t> agreed_;  // the winner of all source rows at each x, or none
    std::vector<float> blend_;          // (x, class), and room to read 8 classes of the last
#if defined(__SSE2__)
    EightLanes lanes_{static_cast<std::size_t>(in_.classes)};
#endif
};

}  // namespace detail

// out (z, y, x) uint8 = the class of the largest linearly interpolated score; of equal ones the smallest.
inline void argmax_resample(const Scores& in, const Taps3& taps, std::uint8_t* out, int threads) {
    const std::vector<detail::Cell> cells = detail::cells_of(taps[2]);
    const auto depth = static_cast<std::size_t>(in.shape[0]);
    std::vector<std::uint8_t> winners(depth * static_cast<std::size_t>(in.shape[1] * in.shape[2]));
    for_each_task(depth, threads, [&](std::size_t z) {
        std::uint8_t* to = winners.data() + z * winners.size() / depth;
        for (Index y = 0; y < in.shape[1]; ++y, to += in.shape[2])
            detail::winners_of_row(in, static_cast<Index>(z), y, to);
    });
    for_each_task(taps[0].size(), threads, [&](std::size_t z) {
        detail::BlendedRow row(in, winners);
        std::uint8_t* to = out + z * taps[1].size() * taps[2].size();
        for (const Taps& y : taps[1]) {
            row.take(taps[0][z], y);
            row.write_labels(cells, taps[2], to);
            to += taps[2].size();
        }
    });
}

}  // namespace kidseg
