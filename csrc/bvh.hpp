// Nearest primitive to a point: a binary tree of bounding boxes, split at the median of the longest side.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "marching.hpp"

namespace kidseg {

[[nodiscard]] inline double squared_distance(const Point& p, const Point& q) {
    const double dz = p[0] - q[0], dy = p[1] - q[1], dx = p[2] - q[2];
    return dz * dz + dy * dy + dx * dx;
}

// Ericson 2005, "Real-time collision detection", 5.1.5.
[[nodiscard]] inline double squared_distance(const Point& p, const Triangle& t) {
    const auto sub = [](const Point& a, const Point& b) { return Point{a[0] - b[0], a[1] - b[1], a[2] - b[2]}; };
    const auto dot = [](const Point& a, const Point& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; };
    const auto along = [](const Point& a, const Point& d, double s) { return Point{a[0] + s * d[0], a[1] + s * d[1], a[2] + s * d[2]}; };
    const Point ab = sub(t[1], t[0]), ac = sub(t[2], t[0]), ap = sub(p, t[0]);
    const double d1 = dot(ab, ap), d2 = dot(ac, ap);
    if (d1 <= 0 && d2 <= 0) return squared_distance(p, t[0]);
    const Point bp = sub(p, t[1]);
    const double d3 = dot(ab, bp), d4 = dot(ac, bp);
    if (d3 >= 0 && d4 <= d3) return squared_distance(p, t[1]);
    const double vc = d1 * d4 - d3 * d2;
    if (vc <= 0 && d1 >= 0 && d3 <= 0) return squared_distance(p, along(t[0], ab, d1 / (d1 - d3)));
    const Point cp = sub(p, t[2]);
    const double d5 = dot(ab, cp), d6 = dot(ac, cp);
    if (d6 >= 0 && d5 <= d6) return squared_distance(p, t[2]);
    const double vb = d5 * d2 - d1 * d6;
    if (vb <= 0 && d2 >= 0 && d6 <= 0) return squared_distance(p, along(t[0], ac, d2 / (d2 - d6)));
    const double va = d3 * d6 - d5 * d4;
    if (va <= 0 && d4 - d3 >= 0 && d5 - d6 >= 0)
        return squared_distance(p, along(t[1], sub(t[2], t[1]), (d4 - d3) / ((d4 - d3) + (d5 - d6))));
    const double scale = 1 / (va + vb + vc);
    return squared_distance(p, along(along(t[0], ab, vb * scale), ac, vc * scale));
}

template <class Primitive>
class Bvh {
public:
    explicit Bvh(std::vector<Primitive> primitives) : primitives_(std::move(primitives)) {
        if (!primitives_.empty()) build(0, primitives_.size());
    }

    // Squared distance to the nearest primitive, or `bound` where none is nearer.
    [[nodiscard]] double nearest(const Point& p, double bound = std::numeric_limits<double>::infinity()) const {
        if (nodes_.empty()) return bound;
        std::array<std::uint32_t, 64> stack;
        std::size_t depth = 0;
        stack[depth++] = 0;
        while (depth > 0) {
            const Node& node = nodes_[stack[--depth]];
            if (to_box(p, node) >= bound) continue;
            if (node.right == 0) {
                for (std::size_t i = node.begin; i < node.end; ++i) bound = std::min(bound, squared_distance(p, primitives_[i]));
                continue;
            }
            const auto left = static_cast<std::uint32_t>(&node - nodes_.data() + 1);
            const bool left_first = to_box(p, nodes_[left]) <= to_box(p, nodes_[node.right]);
            stack[depth++] = left_first ? node.right : left;
            stack[depth++] = left_first ? left : node.right;
        }
        return bound;
    }

private:
    struct Node {
        Point lo, hi;
        std::uint32_t right = 0;  // 0 in a leaf; the left child is the next node
        std::size_t begin = 0, end = 0;
    };

    static const Point* corners(const Point& p) { return &p; }
    static const Point* corners(const Triangle& t) { return t.data(); }
    static constexpr std::size_t n_corners = sizeof(Primitive) / sizeof(Point);

    [[nodiscard]] static double to_box(const Point& p, const Node& node) {
        double sum = 0;
        for (std::size_t a = 0; a < 3; ++a) {
            const double outside = std::max({node.lo[a] - p[a], 0.0, p[a] - node.hi[a]});
            sum += outside * outside;
        }
        return sum;
    }

    std::uint32_t build(std::size_t begin, std::size_t end) {
        const auto id = static_cast<std::uint32_t>(nodes_.size());
        nodes_.emplace_back();
        Node node;
        node.begin = begin;
        node.end = end;
        node.lo.fill(std::numeric_limits<double>::infinity());
        node.hi.fill(-std::numeric_limits<double>::infinity());
        for (std::size_t i = begin; i < end; ++i)
            for (std::size_t c = 0; c < n_corners; ++c)
                for (std::size_t a = 0; a < 3; ++a) {
                    node.lo[a] = std::min(node.lo[a], corners(primitives_[i])[c][a]);
                    node.hi[a] = std::max(node.hi[a], corners(primitives_[i])[c][a]);
                }
        if (end - begin > leaf_size) {
            std::size_t axis = 0;
            for (std::size_t a = 1; a < 3; ++a)
                if (node.hi[a] - node.lo[a] > node.hi[axis] - node.lo[axis]) axis = a;
            const std::size_t middle = begin + (end - begin) / 2;
            const auto at = [&](std::size_t i) { return primitives_.begin() + static_cast<std::ptrdiff_t>(i); };
            std::nth_element(at(begin), at(middle), at(end), [&](const Primitive& a, const Primitive& b) {
                return corners(a)[0][axis] < corners(b)[0][axis];
            });
            build(begin, middle);
            node.right = build(middle, end);
        }
        nodes_[id] = node;
        return id;
    }

    static constexpr std::size_t leaf_size = 8;
    std::vector<Primitive> primitives_;
    std::vector<Node> nodes_;
};

}  // namespace kidseg
