// A mask as bits, one word for 64 voxels of a row, with a ring of background one voxel wide all round.
#pragma once

#include <cstdint>
#include <vector>

#include "base/grid.hpp"
#include "base/voxel_words.hpp"

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
    [[nodiscard]] const Word* row(Index z, Index y) const {
        return words_.data() + (z * shape_[1] + y) * words_per_row_;
    }
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

// Bit x of the result is bit x + 1 of the row.
[[nodiscard]] inline Word shifted_down(const Word* row, Index w, Index words) {
    return row[w] >> 1 | (w + 1 < words ? row[w + 1] << 63 : 0);
}

// Leaves the set voxels with an unset face neighbour; beyond the grid nothing is set. Takes one plane of memory.
inline void keep_border(BitGrid& mask) {
    const Index3 n = mask.shape();
    const Index words = mask.words_per_row();
    // Rows as they were: of this plane, from y on of the last.
    std::vector<Word> before(static_cast<std::size_t>(n[1] * words));
    for (Index z = 1; z + 1 < n[0]; ++z)
        for (Index y = 1; y + 1 < n[1]; ++y) {
            Word* here = mask.row(z, y);
            Word* last_plane = before.data() + y * words;
            const Word *last_row = last_plane - words, *next_row = mask.row(z, y + 1), *next_plane = mask.row(z + 1, y);
            Word carry = 0;
            for (Index w = 0; w < words; ++w) {
                const Word word = here[w], in_row = (word << 1 | carry) & shifted_down(here, w, words);
                here[w] = word & ~(in_row & last_row[w] & next_row[w] & last_plane[w] & next_plane[w]);
                last_plane[w] = word;
                carry = word >> 63;
            }
        }
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

// Puts its mixed cells in the place of a mask; visit(z, y, x) sees each in scan order, its corners still there.
template <class Visit>
void replace_by_mixed_cells(BitGrid& mask, Visit&& visit) {
    for (Index z = 0; z + 1 < mask.shape()[0]; ++z)
        for (Index y = 0; y + 1 < mask.shape()[1]; ++y)
            for (Index w = 0; w < mask.words_per_row(); ++w) {
                const Word cells = mixed_word(mask, z, y, w);
                for (Word word = cells; word != 0; word &= word - 1) visit(z, y, 64 * w + __builtin_ctzll(word));
                mask.row(z, y)[w] = cells;
            }
}

// visit(z, y, x) for every such cell of plane z, in scan order.
template <class Visit>
void for_each_mixed_cell_in(const BitGrid& mask, Index z, Visit&& visit) {
    if (z + 1 >= mask.shape()[0]) return;
    for (Index y = 0; y + 1 < mask.shape()[1]; ++y)
        for (Index w = 0; w < mask.words_per_row(); ++w)
            for (Word word = mixed_word(mask, z, y, w); word != 0; word &= word - 1)
                visit(z, y, 64 * w + __builtin_ctzll(word));
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
