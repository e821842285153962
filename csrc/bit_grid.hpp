// A mask as bits, one word for 64 voxels of a row, with a ring of background one voxel wide all round.
#pragma once

#include <cstdint>
#include <vector>

#include "grid.hpp"
#include "lanes.hpp"

namespace kidseg {

class BitGrid {
public:
    BitGrid() = default;
    explicit BitGrid(const Index3& shape)
        : shape_{shape[0] + 2, shape[1] + 2, shape[2] + 2},
          words_per_row_((shape[2] + 2 + 63) / 64),
          words_(static_cast<std::size_t>(shape_[0] * shape_[1] * words_per_row_)) {}

    // The voxels of `mask` inside `box` that are not zero.
    template <class T>
    BitGrid(const Grid<const T>& mask, const Box& box) : BitGrid(box.shape()) {
        const Index3 n = box.shape();
        for (Index z = 0; z < n[0]; ++z)
            for (Index y = 0; y < n[1]; ++y) {
                const T* in = mask.row(z + box.lo[0], y + box.lo[1]) + box.lo[2] * mask.stride[2];
                Word* out = row(z + 1, y + 1);
                Index x = 0;
                if (mask.stride[2] == 1)
                    for (; x + 64 <= n[2]; x += 64) {
                        const Word bits = differs_from(in + x, T{});
                        out[x >> 6] |= bits << 1;
                        out[(x >> 6) + 1] |= bits >> 63;
                    }
                for (; x < n[2]; ++x) out[(x + 1) >> 6] |= Word{in[x * mask.stride[2]] != T{}} << ((x + 1) & 63);
            }
    }

    // Padded sizes: voxel (z, y, x) of the box is bit (z + 1, y + 1, x + 1).
    [[nodiscard]] const Index3& shape() const { return shape_; }
    [[nodiscard]] Index words_per_row() const { return words_per_row_; }
    [[nodiscard]] Word* row(Index z, Index y) { return words_.data() + (z * shape_[1] + y) * words_per_row_; }
    [[nodiscard]] const Word* row(Index z, Index y) const { return words_.data() + (z * shape_[1] + y) * words_per_row_; }
    [[nodiscard]] bool test(Index z, Index y, Index x) const { return (row(z, y)[x >> 6] >> (x & 63) & 1) != 0; }

private:
    Index3 shape_{};
    Index words_per_row_ = 0;
    std::vector<Word> words_;
};

// visit(z, y, x) for every set bit of plane z, and of the grid, in scan order.
template <class Visit>
void for_each_bit_in(const BitGrid& bits, Index z, Visit&& visit) {
    for (Index y = 0; y < bits.shape()[1]; ++y) {
        const Word* row = bits.row(z, y);
        for (Index w = 0; w < bits.words_per_row(); ++w)
            for (Word word = row[w]; word != 0; word &= word - 1) visit(z, y, 64 * w + __builtin_ctzll(word));
    }
}
template <class Visit>
void for_each_bit(const BitGrid& bits, Visit&& visit) {
    for (Index z = 0; z < bits.shape()[0]; ++z) for_each_bit_in(bits, z, visit);
}

[[nodiscard]] inline std::size_t count_bits(const BitGrid& bits) {
    std::size_t n = 0;
    for_each_bit(bits, [&](Index, Index, Index) { ++n; });
    return n;
}

// Bit x of the result is bit x - 1 of the row (carried from the word before); and the other way for `shifted_down`.
[[nodiscard]] inline Word shifted_up(const Word* row, Index w) {
    return row[w] << 1 | (w > 0 ? row[w - 1] >> 63 : 0);
}
[[nodiscard]] inline Word shifted_down(const Word* row, Index w, Index words) {
    return row[w] >> 1 | (w + 1 < words ? row[w + 1] << 63 : 0);
}

// Set voxels with an unset face neighbour; beyond the grid nothing is set.
[[nodiscard]] inline BitGrid border_of(const BitGrid& mask) {
    const Index3 n = mask.shape();
    const Index words = mask.words_per_row();
    BitGrid border({n[0] - 2, n[1] - 2, n[2] - 2});
    for (Index z = 1; z + 1 < n[0]; ++z)
        for (Index y = 1; y + 1 < n[1]; ++y) {
            const Word* here = mask.row(z, y);
            Word* out = border.row(z, y);
            for (Index w = 0; w < words; ++w) {
                if (here[w] == 0) continue;
                const Word inside = shifted_up(here, w) & shifted_down(here, w, words) & mask.row(z, y - 1)[w] &
                                             mask.row(z, y + 1)[w] & mask.row(z - 1, y)[w] & mask.row(z + 1, y)[w];
                out[w] = here[w] & ~inside;
            }
        }
    return border;
}

// Cells whose eight corners differ: bit (z, y, x) stands for corners (z..z+1, y..y+1, x..x+1). One word of them.
[[nodiscard]] inline Word mixed_word(const BitGrid& mask, Index z, Index y, Index w) {
    Word any = 0, all = ~Word{0};
    for (const Word* row : {mask.row(z, y), mask.row(z, y + 1), mask.row(z + 1, y), mask.row(z + 1, y + 1)}) {
        const Word next = shifted_down(row, w, mask.words_per_row());
        any |= row[w] | next;
        all &= row[w] & next;
    }
    return any & ~all;
}

[[nodiscard]] inline BitGrid mixed_cells(const BitGrid& mask) {
    const Index3 n = mask.shape();
    BitGrid cells({n[0] - 2, n[1] - 2, n[2] - 2});
    for (Index z = 0; z + 1 < n[0]; ++z)
        for (Index y = 0; y + 1 < n[1]; ++y)
            for (Index w = 0; w < mask.words_per_row(); ++w) cells.row(z, y)[w] = mixed_word(mask, z, y, w);
    return cells;
}

// visit(z, y, x) for every such cell of plane z, in scan order.
template <class Visit>
void for_each_mixed_cell_in(const BitGrid& mask, Index z, Visit&& visit) {
    if (z + 1 >= mask.shape()[0]) return;
    for (Index y = 0; y + 1 < mask.shape()[1]; ++y)
        for (Index w = 0; w < mask.words_per_row(); ++w)
            for (Word word = mixed_word(mask, z, y, w); word != 0; word &= word - 1) visit(z, y, 64 * w + __builtin_ctzll(word));
}

// Which of the eight corners of a cell are set: bit 4 dz + 2 dy + dx.
[[nodiscard]] inline unsigned cell_code(const BitGrid& mask, Index z, Index y, Index x) {
    const Index w = x >> 6, bit = x & 63;
    const auto two = [&](Index zz, Index yy) {
        const Word* row = mask.row(zz, yy) + w;
        const Word pair = bit < 63 ? row[0] >> bit : row[0] >> 63 | row[1] << 1;
        return static_cast<unsigned>(pair & 3);
    };
    return two(z, y) | two(z, y + 1) << 2 | two(z + 1, y) << 4 | two(z + 1, y + 1) << 6;
}

}  // namespace kidseg
