// Nearest of the set bits of a grid: a binary tree of bounding boxes, split at the median of the longest side.
// Memory is 12 bytes a bit and 36 bytes for each eight of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "surfaces/bit_grid.hpp"
#include "base/grid.hpp"
#include "surfaces/marching_cubes.hpp"

namespace kidseg {

class CellTree {
public:
    using Cell = std::array<std::uint32_t, 3>;

    // Bits stand for points (thick = 0) or for the cells that begin there (thick = 1).
    CellTree(const BitGrid& bits, const Spacing& spacing, Index thick)
        : spacing_(spacing), thick_(static_cast<double>(thick)) {
        constexpr Index most = std::numeric_limits<std::uint32_t>::max();
        const std::size_t n = count_bits(bits);
        const Index3 shape = bits.shape();
        if (std::max({static_cast<Index>(n), shape[0], shape[1], shape[2]}) > most)
            throw std::length_error("more than 4294967295 surface elements or voxels along an axis");
        cells_.reserve(n);
        nodes_.reserve(4 * (n / leaf_size + 1));
        for_each_bit(bits, [&](Index z, Index y, Index x) {
            cells_.push_back(
                {static_cast<std::uint32_t>(z), static_cast<std::uint32_t>(y), static_cast<std::uint32_t>(x)});
        });
        if (n > 0) build(0, static_cast<std::uint32_t>(n));
    }

    // The least of `bound` and squared_mm(cell) over all cells; p is in mm, and no cell is nearer than its box.
    template <class Squared>
    [[nodiscard]] double nearest(const Point& p, double bound, Squared&& squared_mm) const {
        if (nodes_.empty()) return bound;
        std::array<std::uint32_t, 64> stack;
        std::size_t depth = 0;
        stack[depth++] = 0;
        while (depth > 0) {
            const std::uint32_t id = stack[--depth];
            const Node& node = nodes_[id];
            if (to_box(p, node) >= bound) continue;
            if (node.right == 0) {
                for (std::uint32_t i = node.begin; i < node.end; ++i) bound = std::min(bound, squared_mm(cells_[i]));
                continue;
            }
            const std::uint32_t left = id + 1;
            const bool left_first = to_box(p, nodes_[left]) <= to_box(p, nodes_[node.right]);
            stack[depth++] = left_first ? node.right : left;
            stack[depth++] = left_first ? left : node.right;
        }
        return bound;
    }

private:
    struct Node {
        Cell lo{}, hi{};          // least and largest corners of its cells
        std::uint32_t right = 0;  // 0 in a leaf; the left child is the next node
        std::uint32_t begin = 0, end = 0;
    };

    [[nodiscard]] double to_box(const Point& p, const Node& node) const {
        double sum = 0;
        for (std::size_t a = 0; a < 3; ++a) {
            const double lo = node.lo[a] * spacing_[a], hi = (node.hi[a] + thick_) * spacing_[a];
            const double outside = std::max({lo - p[a], 0.0, p[a] - hi});
            sum += outside * outside;
        }
        return sum;
    }

    std::uint32_t build(std::uint32_t begin, std::uint32_t end) {
        const auto id = static_cast<std::uint32_t>(nodes_.size());
        Node node{cells_[begin], cells_[begin], 0, begin, end};
        for (std::uint32_t i = begin; i < end; ++i)
            for (std::size_t a = 0; a < 3; ++a) {
                node.lo[a] = std::min(node.lo[a], cells_[i][a]);
                node.hi[a] = std::max(node.hi[a], cells_[i][a]);
            }
        nodes_.push_back(node);
        if (end - begin <= leaf_size) return id;
        const auto side = [&](std::size_t a) { return (node.hi[a] - node.lo[a]) * spacing_[a]; };
        const std::size_t axis = side(0) >= side(1) ? (side(0) >= side(2) ? 0 : 2) : (side(1) >= side(2) ? 1 : 2);
        const std::uint32_t middle = begin + (end - begin) / 2;
        const auto at = [&](std::uint32_t i) { return cells_.begin() + static_cast<std::ptrdiff_t>(i); };
        std::nth_element(at(begin), at(middle), at(end),
                         [&](const Cell& a, const Cell& b) { return a[axis] < b[axis]; });
        build(begin, middle);
        const std::uint32_t right = build(middle, end);
        nodes_[id].right = right;
        return id;
    }

    static constexpr std::uint32_t leaf_size = 8;
    Spacing spacing_;
    double thick_;
    std::vector<Cell> cells_;
    std::vector<Node> nodes_;
};

}  // namespace kidseg
